//===- ReplayTest.cpp - states whose last tokens can be taken back --------===//
//
// Steps of which only some tokens count, against the same kernel without
// replay that was given those tokens alone, one by one: every output and the
// settled state must be the same bits.
//
//===----------------------------------------------------------------------===//

#include "tests/kernels/cpu/mixers/DeltaProblem.h"

using namespace lathe::test;

namespace {

/// A launch of `tokens` new tokens, the first `counted` of which are true.
struct Step {
  int tokens, counted;
};

/// The conv ring and the state with its ring of gates.
class Replay {
public:
  Replay(const DeltaCase &c, const Problem &p)
      : c(c), p(p), conv(poison((size_t)LATHE_REPLAY_RING * p.channels)),
        state(p.state) {
    Floats gates = poison((size_t)LATHE_REPLAY_RING * 2 * p.gateStride);
    state.insert(state.end(), gates.begin(), gates.end());
    for (int r = 0; r < c.taps - 1; ++r)
      std::copy_n(p.conv.begin() + (size_t)r * p.channels, p.channels,
                  conv.begin() +
                      (size_t)ringRow(r - (c.taps - 1)) * p.channels);
  }

  /// Runs a step at the current position; outputs of tokens that count go to
  /// `out`. What does not count is noise of the size of other tokens.
  void run(const Step &step, bool chunk, int threads, Floats &out) {
    auto rows = [&](const Floats &all, int width, unsigned seed) {
      Floats part = Random(seed).normal((size_t)step.tokens * width + 64);
      std::copy_n(all.begin() + (size_t)position * width,
                  (size_t)step.counted * width, part.begin());
      return part;
    };
    Floats qkv = rows(p.qkv, p.channels, 1), a = rows(p.a, p.gateStride, 2),
           b = rows(p.b, p.gateStride, 3);
    Floats fresh = poison((size_t)step.tokens * p.outWidth + 1);
    runTeam(chunk ? c.prefill : c.step,
            {qkv.data(), a.data(), b.data(), (void *)p.weight.data(),
             (void *)p.aLog.data(), (void *)p.dtBias.data(), conv.data(),
             state.data(), fresh.data()},
            threads, step.tokens, position, 0,
            chunk ? c.prefillBytes : c.stepBytes, pending);
    out.insert(out.end(), fresh.begin(),
               fresh.begin() + (size_t)step.counted * p.outWidth);
    position += step.counted;
    pending = chunk || step.tokens == 1 ? 0 : step.counted;
  }

  /// A step of no tokens settles the state; then as DeltaTest has it.
  Result finish(int threads, Floats out) {
    run({0, 0}, false, threads, out);
    Result r{std::move(out), {}, {}};
    for (int t = 1 - c.taps; t < 0; ++t) {
      auto row = conv.begin() + (size_t)ringRow(position + t) * p.channels;
      r.conv.insert(r.conv.end(), row, row + p.channels);
    }
    r.state.assign(state.begin(), state.begin() + (long)p.state.size());
    return r;
  }

private:
  static int ringRow(int position) {
    return (position + LATHE_REPLAY_RING) % LATHE_REPLAY_RING;
  }

  const DeltaCase &c;
  const Problem &p;
  Floats conv, state;
  int position = 0, pending = 0;
};

class ReplayTest : public MixerTest {
protected:
  template <class F> void forEachShape(F body) {
    for (int i = 0; i < GetParam()->deltaCount; ++i) {
      const DeltaCase &c = GetParam()->deltas[i];
      SCOPED_TRACE(testing::Message()
                   << c.keyHeads << "/" << c.valueHeads << " heads of "
                   << c.keyDim << " x " << c.valueDim);
      body(c, GetParam()->replays[i]);
    }
  }

  static Result decode(const Problem &p, const DeltaCase &replay,
                       const std::vector<Step> &steps, int threads) {
    Replay state(replay, p);
    Floats out;
    for (const Step &step : steps)
      state.run(step, false, threads, out);
    return state.finish(threads, std::move(out));
  }
};

int countedIn(const std::vector<Step> &steps) {
  int sum = 0;
  for (const Step &step : steps)
    sum += step.counted;
  return sum;
}

TEST_P(ReplayTest, RejectionAtEveryPositionLeavesNoTrace) {
  forEachShape([](const DeltaCase &plain, const DeltaCase &replay) {
    for (int tokens = 1; tokens <= 8; ++tokens)
      // A single token cannot be taken back.
      for (int counted = tokens == 1; counted <= tokens; ++counted) {
        SCOPED_TRACE(testing::Message() << counted << " of " << tokens);
        // Before and behind it steps of other sizes.
        std::vector<Step> steps = {{3, 2}, {tokens, counted}, {8, 8}, {1, 1}};
        Problem p(plain, countedIn(steps), 40u + (unsigned)tokens);
        EXPECT_TRUE(decode(p, replay, steps, 1) == run(p, true, 1, 1));
      }
  });
}

TEST_P(ReplayTest, TheRingWrapsAround) {
  forEachShape([](const DeltaCase &plain, const DeltaCase &replay) {
    std::vector<Step> steps;
    for (int i = 0; i < 30; ++i)
      steps.push_back({1 + i * 5 % 8, 1 + i * 5 % 8 * (i * 3 % 4) / 4});
    Problem p(plain, countedIn(steps), 51);
    EXPECT_TRUE(decode(p, replay, steps, 1) == run(p, true, 1, 1));
  });
}

TEST_P(ReplayTest, TeamSizeChangesNoBit) {
  forEachShape([](const DeltaCase &plain, const DeltaCase &replay) {
    std::vector<Step> steps = {{8, 8}, {8, 3}, {4, 1}, {2, 2}};
    Problem p(plain, countedIn(steps), 61);
    Result one = decode(p, replay, steps, 1);
    for (int threads : {2, 3, 5})
      EXPECT_TRUE(decode(p, replay, steps, threads) == one) << threads;
  });
}

TEST_P(ReplayTest, APromptFoldsInWhatIsPending) {
  forEachShape([](const DeltaCase &plain, const DeltaCase &replay) {
    for (int prompt : {1, 2, 3, 40}) {
      SCOPED_TRACE(testing::Message() << "a prompt of " << prompt);
      Problem p(plain, 5 + prompt + 4, 71);
      Result want = initial(p);
      launch(p, want, true, 1, 0, 5);
      launch(p, want, false, 1, 5, prompt);
      launch(p, want, true, 1, 5 + prompt, 4);
      Replay state(replay, p);
      Floats out;
      state.run({8, 5}, false, 2, out);
      state.run({prompt, prompt}, true, 2, out);
      state.run({6, 4}, false, 2, out);
      EXPECT_TRUE(state.finish(2, std::move(out)) == want);
    }
  });
}

LATHE_INSTANTIATE_MIXER_TEST(ReplayTest);

} // namespace
