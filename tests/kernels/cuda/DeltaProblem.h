//===- DeltaProblem.h - the Gated-DeltaNet kernels, run ---------*- C++ -*-===//
//
// Shapes of the kernels, random inputs for them, and launches in the emulator.
// Everything a kernel should not read is NaN, everything it should write starts
// as NaN, and what lies behind its scratch is checked.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_KERNELS_CUDA_DELTAPROBLEM_H
#define LATHE_TESTS_KERNELS_CUDA_DELTAPROBLEM_H

#include "tests/kernels/cuda/emulator/intrinsics.h"

#include "compiler/device/cuda/delta_prefill.cuh"
#include "compiler/device/cuda/delta_step.cuh"
#include "tests/kernels/cuda/emulator/Emulator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace lathe::test {

using Floats = std::vector<float>;

struct Operands {
  const float *qkv, *a, *b, *weight, *aLog, *dtBias;
  float *conv, *state, *out;
};
using Entry = void (*)(const LatheLaunch &, const Operands &);

constexpr float kEps = 1e-6f, kScale = 0.3f;

template <int kHk, int kHv, int kK, int kV, int kJ, int kT, bool kR = false>
struct Config {
  static constexpr int kKeyHeads = kHk, kValueHeads = kHv;
  static constexpr int kKeyDim = kK, kValueDim = kV, kTaps = kJ;
  static constexpr float kQkEps = kEps, kQScale = kScale;
  static constexpr int kChunk = lathe::kDeltaChunk, kTokens = kT;
  static constexpr bool kReplay = kR;
};

#define LATHE_DELTA_ENTRY(name, function)                                      \
  template <class Cfg> void name(const LatheLaunch &ctx, const Operands &o) {  \
    lathe::function<Cfg>(ctx, o.qkv, o.a, o.b, o.weight, o.aLog, o.dtBias,     \
                         o.conv, o.state, o.out);                              \
  }
LATHE_DELTA_ENTRY(stepEntry, deltaStep)
LATHE_DELTA_ENTRY(settleEntry, deltaSettle)
LATHE_DELTA_ENTRY(prepareEntry, deltaPrepare)
LATHE_DELTA_ENTRY(scanEntry, deltaScan)

struct Case {
  CudaDeltaShape shape;
  Entry step[8], settle, prepare, scan;
};
template <int kHk, int kHv, int kK, int kV, int kJ, bool kR = false>
Case makeCase() {
  return {{kHk, kHv, kK, kV, kJ, kR},
          {stepEntry<Config<kHk, kHv, kK, kV, kJ, 1, kR>>,
           stepEntry<Config<kHk, kHv, kK, kV, kJ, 2, kR>>,
           stepEntry<Config<kHk, kHv, kK, kV, kJ, 3, kR>>,
           stepEntry<Config<kHk, kHv, kK, kV, kJ, 4, kR>>,
           stepEntry<Config<kHk, kHv, kK, kV, kJ, 5, kR>>,
           stepEntry<Config<kHk, kHv, kK, kV, kJ, 6, kR>>,
           stepEntry<Config<kHk, kHv, kK, kV, kJ, 7, kR>>,
           stepEntry<Config<kHk, kHv, kK, kV, kJ, 8, kR>>},
          settleEntry<Config<kHk, kHv, kK, kV, kJ, 1, true>>,
          prepareEntry<Config<kHk, kHv, kK, kV, kJ, 0, kR>>,
          scanEntry<Config<kHk, kHv, kK, kV, kJ, 0, kR>>};
}
inline const Case kCases[] = {
    makeCase<2, 4, 16, 32, 4>(),   makeCase<1, 3, 32, 48, 2>(),
    makeCase<1, 1, 128, 128, 4>(), makeCase<2, 2, 48, 16, 8>(),
    makeCase<1, 2, 144, 32, 3>(), // an odd number of key tiles in two parts
    makeCase<1, 1, 256, 64, 5>(),
};

inline Floats poison(size_t count) {
  return Floats(count, std::numeric_limits<float>::quiet_NaN());
}
inline bool sameBits(const Floats &a, const Floats &b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}
inline int padded(int width) { return (width + 15) / 16 * 16; }

/// Inputs of `tokens` tokens from `position` on, and the state they start from.
struct Problem {
  const Case &kernels;
  CudaDeltaShape shape;
  int tokens, position, channels, gateStride, outWidth, outStride;
  Floats qkv, a, b, weight, aLog, dtBias, conv, state;
  std::mt19937 engine;

  void fill(Floats &x, size_t count, float scale, float mean = 0.0f) {
    std::normal_distribution<float> draw(mean, scale);
    x.resize(count);
    for (float &value : x)
      value = draw(engine);
  }
  Floats gateRows() {
    Floats all = poison((size_t)tokens * gateStride), row;
    for (int t = 0; t < tokens; ++t) {
      fill(row, shape.valueHeads, 2.0f);
      std::copy(row.begin(), row.end(), all.begin() + t * gateStride);
    }
    return all;
  }
  /// The ring row of a position.
  float *ring(Floats &all, int at) const {
    return &all[(size_t)(at + 16 * LATHE_CONV_RING) % LATHE_CONV_RING *
                channels];
  }

  Problem(const Case &c, int tokens, int position, unsigned seed)
      : kernels(c), shape(c.shape), tokens(tokens), position(position),
        channels(c.shape.channels()), gateStride(padded(c.shape.valueHeads)),
        outWidth(c.shape.valueHeads * c.shape.valueDim),
        outStride(padded(outWidth)), engine(seed) {
    fill(qkv, (size_t)tokens * channels, 1.0f);
    a = gateRows();
    b = gateRows();
    fill(weight, (size_t)shape.taps * channels, 0.5f);
    fill(aLog, shape.valueHeads, 1.0f);
    fill(dtBias, shape.valueHeads, 1.0f, -1.0f);
    fill(state, (size_t)shape.valueHeads * shape.keyDim * shape.valueDim, 0.3f);
    // Rows that no position in reach uses must not be read.
    conv = poison((size_t)LATHE_CONV_RING * channels);
    for (int j = 1; j < shape.taps; ++j) {
      Floats row(channels, 0.0f);
      if (position >= j)
        fill(row, channels, 1.0f);
      std::copy(row.begin(), row.end(), ring(conv, position - j));
    }
  }
};

struct Result {
  Floats out, conv, state;
  bool operator==(const Result &o) const {
    return sameBits(out, o.out) && sameBits(conv, o.conv) &&
           sameBits(state, o.state);
  }
};

/// Rows [t, t + count), with nothing readable behind them.
inline Floats rowsOf(const Floats &all, int width, int t, int count) {
  Floats part = poison((size_t)(count + 1) * width);
  std::copy_n(all.begin() + (size_t)t * width, (size_t)count * width,
              part.begin());
  return part;
}

/// A kernel's workspace, exactly as large as it asks for.
class Scratch {
public:
  explicit Scratch(size_t bytes)
      : memory(bytes + 2 * kGuard, (char)0xff),
        start(memory.data() + kGuard - (size_t)memory.data() % kGuard),
        end(start + bytes) {}
  ~Scratch() {
    bool intact = std::all_of(end, memory.data() + memory.size(),
                              [](char c) { return c == (char)0xff; });
    EXPECT_TRUE(intact) << "wrote beyond the scratch";
  }
  char *data() { return start; }

private:
  static constexpr size_t kGuard = 256;
  std::vector<char> memory;
  char *start, *end;
};

/// Runs one launch.
inline void launch(const Case &kernels, bool prefill, const Operands &o,
                   LatheStep step, int maxTokens, emulator::Order order) {
  const CudaDeltaShape &s = kernels.shape;
  Scratch scratch(prefill ? lathe::deltaScratch(s, maxTokens) : 0);
  LatheLaunch ctx{&step, scratch.data(), nullptr, 0};
  auto entry = [&](Entry entry, int blocks, int threads, int shared) {
    emulator::runGrid({blocks, 1, threads, shared, order, 5},
                      [&] { entry(ctx, o); });
  };
  if (!prefill) {
    entry(kernels.step[step.tokens - 1], lathe::deltaStepBlocks(s),
          lathe::deltaStepThreads(s), lathe::deltaStepShared(s, step.tokens));
    return;
  }
  if (s.replay)
    entry(kernels.settle, lathe::deltaStepBlocks(s), lathe::deltaStepThreads(s),
          lathe::deltaStepShared(s, 1));
  entry(kernels.prepare, lathe::deltaPrepareBlocks(s, maxTokens),
        lathe::kDeltaPrepareThreads, lathe::deltaPrepareShared(s));
  entry(kernels.scan, lathe::deltaScanBlocks(s), lathe::deltaScanThreads(s),
        lathe::deltaScanShared(s));
}

/// Inputs of some tokens of a problem, and where its states and outputs go.
inline Operands operandsOf(const Problem &p, const Floats &qkv, const Floats &a,
                           const Floats &b, Floats &conv, Floats &state,
                           float *out) {
  return {.qkv = qkv.data(),
          .a = a.data(),
          .b = b.data(),
          .weight = p.weight.data(),
          .aLog = p.aLog.data(),
          .dtBias = p.dtBias.data(),
          .conv = conv.data(),
          .state = state.data(),
          .out = out};
}

/// Runs tokens in launches of `batch`; the last may be shorter. A prefill's
/// launches are sized for `maxTokens`.
inline Result run(const Problem &p, bool prefill, int batch,
                  emulator::Order order = emulator::Order::kAscending,
                  int maxTokens = 0) {
  Result r{poison((size_t)p.tokens * p.outStride), p.conv, p.state};
  for (int t = 0; t < p.tokens; t += batch) {
    int count = std::min(batch, p.tokens - t);
    Floats qkv = rowsOf(p.qkv, p.channels, t, count),
           a = rowsOf(p.a, p.gateStride, t, count),
           b = rowsOf(p.b, p.gateStride, t, count);
    Operands o = operandsOf(p, qkv, a, b, r.conv, r.state,
                            r.out.data() + (size_t)t * p.outStride);
    launch(p.kernels, prefill, o, {p.position + t, count, 0},
           std::max(count, maxTokens), order);
  }
  return r;
}

} // namespace lathe::test

#endif // LATHE_TESTS_KERNELS_CUDA_DELTAPROBLEM_H
