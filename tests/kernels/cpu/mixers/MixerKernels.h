//===- MixerKernels.h - the mixer kernels under test ------------*- C++ -*-===//
//
// Tables of kernel instances: each instruction-set variant of MixerKernels.cpp
// defines one. Plain data, because that file is compiled for instruction sets
// that the test binary at large must not use.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_KERNELS_CPU_MIXERS_MIXERKERNELS_H
#define LATHE_TESTS_KERNELS_CPU_MIXERS_MIXERKERNELS_H

#include "runtime/base/KernelAbi.h"

namespace lathe::test {

/// Args of both kernels: qkv, a, b, convWeight, aLog, dtBias, convState,
/// state, out.
struct DeltaCase {
  int keyHeads, valueHeads, keyDim, valueDim, taps, chunk;
  float eps, qScale;
  LatheKernel step, prefill;
  long long stepBytes, prefillBytes; ///< of LatheContext::local
};

/// Args of both kernels: q, k, v, qNorm, kNorm, kCache, vCache, out.
struct AttentionCase {
  int heads, kvHeads, headDim, rotaryDim;
  int qStride, qHeadStride, kStride, vStride, outStride;
  float scale, eps;
  bool qkNorm, plusOne, bf16;
  const float *invFreq;
  LatheKernel decode, prefill;
  long long decodeBytes, prefillBytes;
};

/// Args: x, weight, out.
struct NormCase {
  int width;
  bool plusOne;
  float eps;
  LatheKernel run;
};

struct MixerKernels {
  const char *name;
  const DeltaCase *deltas;
  const DeltaCase *replays; ///< the same shapes, with states that replay
  int deltaCount;
  const AttentionCase *attentions;
  int attentionCount;
  const NormCase *norms;
  int normCount;
  /// Fills sine and cosine of x.
  void (*sinCos)(double x, float *sine, float *cosine);
};

extern const MixerKernels kMixersAvx2, kMixersAvx512;

} // namespace lathe::test

#endif // LATHE_TESTS_KERNELS_CPU_MIXERS_MIXERKERNELS_H
