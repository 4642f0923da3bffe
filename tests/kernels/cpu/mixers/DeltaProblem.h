//===- DeltaProblem.h - inputs of the Gated-DeltaNet kernels ----*- C++ -*-===//

#ifndef LATHE_TESTS_KERNELS_CPU_MIXERS_DELTAPROBLEM_H
#define LATHE_TESTS_KERNELS_CPU_MIXERS_DELTAPROBLEM_H

#include "tests/kernels/cpu/mixers/MixerTest.h"

namespace lathe::test {

inline int padded(int width) { return (width + 15) / 16 * 16; }

/// Inputs of `tokens` tokens and the state they start from.
struct Problem {
  const DeltaCase &shape;
  int tokens, channels, gateStride, outWidth;
  Floats qkv, a, b, weight, aLog, dtBias, conv, state;

  Problem(const DeltaCase &c, int tokens, unsigned seed)
      : shape(c), tokens(tokens),
        channels(2 * c.keyHeads * c.keyDim + c.valueHeads * c.valueDim),
        gateStride(padded(c.valueHeads)), outWidth(c.valueHeads * c.valueDim) {
    Random random(seed);
    qkv = random.normal((size_t)tokens * channels);
    a = poison((size_t)tokens * gateStride);
    b = a;
    for (int t = 0; t < tokens; ++t) {
      Floats x = random.normal(c.valueHeads, 2.0f);
      Floats y = random.normal(c.valueHeads, 2.0f);
      std::copy(x.begin(), x.end(), a.begin() + t * gateStride);
      std::copy(y.begin(), y.end(), b.begin() + t * gateStride);
    }
    weight = random.normal((size_t)c.taps * channels, 0.5f);
    aLog = random.normal(c.valueHeads, 1.0f);
    dtBias = random.normal(c.valueHeads, 1.0f, -1.0f);
    conv = random.normal((size_t)(c.taps - 1) * channels);
    state = random.normal((size_t)c.valueHeads * c.keyDim * c.valueDim, 0.3f);
  }
};

struct Result {
  Floats out, conv, state;
  bool operator==(const Result &o) const {
    return sameBits(out, o.out) && sameBits(conv, o.conv) &&
           sameBits(state, o.state);
  }
};

inline Result initial(const Problem &p) {
  return {poison((size_t)p.tokens * p.outWidth), p.conv, p.state};
}

/// One launch for tokens [t, t + count).
inline void launch(const Problem &p, Result &r, bool step, int threads, int t,
                   int count) {
  const DeltaCase &c = p.shape;
  // A launch sees its own rows only: what follows them is poison.
  auto rows = [&](const Floats &all, int width) {
    Floats part(all.begin() + (size_t)t * width,
                all.begin() + (size_t)(t + count) * width);
    Floats extra = poison(64);
    part.insert(part.end(), extra.begin(), extra.end());
    return part;
  };
  Floats qkv = rows(p.qkv, p.channels), a = rows(p.a, p.gateStride),
         b = rows(p.b, p.gateStride);
  runTeam(step ? c.step : c.prefill,
          {qkv.data(), a.data(), b.data(), (void *)p.weight.data(),
           (void *)p.aLog.data(), (void *)p.dtBias.data(), r.conv.data(),
           r.state.data(), r.out.data() + (size_t)t * p.outWidth},
          threads, count, t, 0, step ? c.stepBytes : c.prefillBytes);
}

/// Runs tokens in launches of `batch`; the last may be shorter.
inline Result run(const Problem &p, bool step, int threads, int batch) {
  Result r = initial(p);
  for (int t = 0; t < p.tokens; t += batch)
    launch(p, r, step, threads, t, std::min(batch, p.tokens - t));
  return r;
}

} // namespace lathe::test

#endif // LATHE_TESTS_KERNELS_CPU_MIXERS_DELTAPROBLEM_H
