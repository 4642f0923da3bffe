//===- ReplayTest.cpp - CUDA states whose last tokens can be taken back ---===//
//
// Steps of which only some tokens count, run by the emulator, against the same
// kernel without replay that was given those tokens alone, one by one: every
// output and the settled state must be the same bits.
//
//===----------------------------------------------------------------------===//

#include "tests/kernels/cuda/DeltaProblem.h"

using namespace lathe::test;
using lathe::CudaDeltaShape;

namespace {

const Case kReplays[] = {
    makeCase<2, 4, 16, 32, 4, true>(),   makeCase<1, 3, 32, 48, 2, true>(),
    makeCase<1, 1, 128, 128, 4, true>(), makeCase<2, 2, 48, 16, 8, true>(),
    makeCase<1, 2, 144, 32, 3, true>(),  makeCase<1, 1, 256, 64, 5, true>(),
};

/// A launch of `tokens` new tokens, the first `counted` of which are true.
struct Step {
  int tokens, counted;
};

/// The ring of inputs and the state with its ring of gates.
class Replay {
public:
  Replay(const Case &kernels, Problem &p)
      : kernels(kernels), p(p), position(p.position),
        conv(poison((size_t)LATHE_REPLAY_RING * p.channels)), state(p.state) {
    Floats gates = poison((size_t)LATHE_REPLAY_RING * 2 * p.gateStride);
    state.insert(state.end(), gates.begin(), gates.end());
    for (int j = 1; j < p.shape.taps; ++j)
      std::copy_n(p.ring(p.conv, position - j), p.channels, ring(position - j));
  }

  /// Runs a step at the current position; what does not count is noise.
  void run(const Step &step, bool prefill, Floats &out,
           emulator::Order order = emulator::Order::kAscending) {
    const int from = position - p.position;
    auto rows = [&](const Floats &all, int width, unsigned seed) {
      std::mt19937 engine(seed);
      std::normal_distribution<float> draw(0, 1);
      Floats part = rowsOf(all, width, from, step.counted);
      part.resize((size_t)(step.tokens + 1) * width);
      for (size_t i = (size_t)step.counted * width; i < part.size(); ++i)
        part[i] = draw(engine);
      return part;
    };
    Floats qkv = rows(p.qkv, p.channels, 1), a = rows(p.a, p.gateStride, 2),
           b = rows(p.b, p.gateStride, 3);
    Floats fresh = poison((size_t)step.tokens * p.outStride + 1);
    Operands o = operandsOf(p, qkv, a, b, conv, state, fresh.data());
    launch(kernels, prefill, o, {position, step.tokens, pending}, step.tokens,
           order);
    out.insert(out.end(), fresh.begin(),
               fresh.begin() + (long)step.counted * p.outStride);
    position += step.counted;
    pending = prefill || step.tokens == 1 ? 0 : step.counted;
  }

  /// Settles the state; the conv ring as the kernel without replay leaves it.
  Result finish(Floats out) {
    settle();
    Result r{std::move(out), poison(p.conv.size()), {}};
    for (int j = 1; j < p.shape.taps; ++j)
      std::copy_n(ring(position - j), p.channels, p.ring(r.conv, position - j));
    r.state.assign(state.begin(), state.begin() + (long)p.state.size());
    return r;
  }

private:
  float *ring(int at) {
    return &conv[(size_t)(at + LATHE_REPLAY_RING) % LATHE_REPLAY_RING *
                 p.channels];
  }
  void settle() {
    LatheStep step{position, 0, pending};
    LatheLaunch ctx{&step, nullptr, nullptr, 0};
    Operands o{};
    o.weight = p.weight.data();
    o.aLog = p.aLog.data();
    o.dtBias = p.dtBias.data();
    o.conv = conv.data();
    o.state = state.data();
    const CudaDeltaShape &s = kernels.shape;
    emulator::runGrid({lathe::deltaStepBlocks(s), 1, lathe::deltaStepThreads(s),
                       lathe::deltaStepShared(s, 1),
                       emulator::Order::kAscending, 5},
                      [&] { kernels.settle(ctx, o); });
  }

  const Case &kernels;
  Problem &p;
  int position, pending = 0;
  Floats conv, state;
};

class CudaReplayTest : public testing::TestWithParam<int> {
protected:
  const Case &plain = kCases[GetParam()], &replay = kReplays[GetParam()];

  Result decode(Problem &p, const std::vector<Step> &steps,
                emulator::Order order = emulator::Order::kAscending) const {
    Replay state(replay, p);
    Floats out;
    for (const Step &step : steps)
      state.run(step, false, out, order);
    return state.finish(std::move(out));
  }
  /// The same of the kernel without replay, one token at a time.
  static Result wanted(Problem &p) {
    Result r = run(p, false, 1);
    Floats conv = poison(r.conv.size());
    for (int j = 1; j < p.shape.taps; ++j) {
      const int at = p.position + p.tokens - j;
      std::copy_n(p.ring(r.conv, at), p.channels, p.ring(conv, at));
    }
    r.conv = std::move(conv);
    return r;
  }
  static int countedIn(const std::vector<Step> &steps) {
    int sum = 0;
    for (const Step &step : steps)
      sum += step.counted;
    return sum;
  }
};

TEST_P(CudaReplayTest, RejectionAtEveryPositionLeavesNoTrace) {
  for (int tokens = 1; tokens <= 8; ++tokens)
    for (int counted = 1; counted <= tokens; ++counted) {
      SCOPED_TRACE(testing::Message() << counted << " of " << tokens);
      // Before and behind it steps of other sizes.
      std::vector<Step> steps = {{3, 2}, {tokens, counted}, {8, 8}, {1, 1}};
      Problem p(plain, countedIn(steps), 9, 40u + (unsigned)tokens);
      EXPECT_TRUE(decode(p, steps) == wanted(p));
    }
}

TEST_P(CudaReplayTest, TheRingWrapsAround) {
  std::vector<Step> steps;
  for (int i = 0; i < 16; ++i)
    steps.push_back({1 + i * 5 % 8, 1 + i * 5 % 8 * (i * 3 % 4) / 4});
  Problem p(plain, countedIn(steps), 0, 51);
  EXPECT_TRUE(decode(p, steps) == wanted(p));
}

TEST_P(CudaReplayTest, TheOrderOfBlocksAndWarpsChangesNoBit) {
  std::vector<Step> steps = {{8, 8}, {8, 3}, {4, 1}, {2, 2}};
  Problem p(plain, countedIn(steps), 13, 61);
  Result first = decode(p, steps);
  for (auto order : emulator::kOrders)
    EXPECT_TRUE(decode(p, steps, order) == first) << (int)order;
}

TEST_P(CudaReplayTest, APromptFoldsInWhatIsPending) {
  for (int prompt : {1, 3, 40}) {
    SCOPED_TRACE(testing::Message() << "a prompt of " << prompt);
    Problem p(plain, 5 + prompt, 3, 71);
    Replay state(replay, p);
    Floats out;
    state.run({8, 5}, false, out);
    state.run({prompt, prompt}, true, out);
    Result found = state.finish(std::move(out));
    // Without replay: five tokens, then the prompt.
    Result want{poison((size_t)p.tokens * p.outStride), p.conv, p.state};
    for (bool prefill : {false, true}) {
      const int t = prefill ? 5 : 0, count = prefill ? prompt : 5;
      Floats qkv = rowsOf(p.qkv, p.channels, t, count),
             a = rowsOf(p.a, p.gateStride, t, count),
             b = rowsOf(p.b, p.gateStride, t, count);
      Operands o = operandsOf(p, qkv, a, b, want.conv, want.state,
                              want.out.data() + (size_t)t * p.outStride);
      launch(plain, prefill, o, {p.position + t, count, 0}, count,
             emulator::Order::kAscending);
    }
    EXPECT_TRUE(sameBits(found.state, want.state));
    EXPECT_TRUE(sameBits(found.out, want.out));
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaReplayTest,
                         testing::Range(0, (int)std::size(kReplays)));

} // namespace
