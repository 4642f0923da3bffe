//===- MixerKernels.cpp - instances of the mixer kernels to test ----------===//
//
// Compiled once per instruction set, with LATHE_VARIANT naming the table. No
// system headers: an inline function of theirs compiled here could be the copy
// that the linker keeps for the whole binary.
//
//===----------------------------------------------------------------------===//

#include "tests/kernels/cpu/mixers/MixerKernels.h"

#include "compiler/device/cpu/attention_decode.h"
#include "compiler/device/cpu/attention_prefill.h"
#include "compiler/device/cpu/delta_chunk.h"
#include "compiler/device/cpu/delta_step.h"

using namespace lathe;
using namespace lathe::test;

namespace {

template <int kHk, int kHv, int kK, int kV, int kConvTaps, int kTokens,
          bool kReplays = false>
struct DeltaCfg {
  static constexpr int kKeyHeads = kHk, kValueHeads = kHv, kKeyDim = kK,
                       kValueDim = kV, kTaps = kConvTaps;
  static constexpr float kQkEps = 1e-6f, kQScale = 0.125f;
  static constexpr int kChunk = kTokens;
  static constexpr bool kReplay = kReplays;
};

template <class Cfg> void runStep(void *const *args, const LatheContext *ctx) {
  float *const *p = (float *const *)args;
  deltaStep<Cfg, 8>(ctx, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8]);
}
template <class Cfg> void runChunk(void *const *args, const LatheContext *ctx) {
  float *const *p = (float *const *)args;
  deltaChunk<Cfg>(ctx, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8]);
}

template <class C> constexpr DeltaCase delta() {
  constexpr DeltaShape shape = DeltaDims<C>::shape(C::kChunk);
  return {C::kKeyHeads,
          C::kValueHeads,
          C::kKeyDim,
          C::kValueDim,
          C::kTaps,
          C::kChunk,
          C::kQkEps,
          C::kQScale,
          runStep<C>,
          runChunk<C>,
          deltaStepScratch(shape, 8).bytes,
          deltaChunkScratch(shape).bytes};
}

const DeltaCase kDeltas[] = {
    delta<DeltaCfg<2, 2, 128, 128, 4, 64>>(),
    delta<DeltaCfg<2, 6, 128, 128, 4, 32>>(),
    delta<DeltaCfg<1, 2, 64, 32, 4, 64>>(),
    delta<DeltaCfg<3, 3, 16, 48, 3, 16>>(),
    delta<DeltaCfg<1, 3, 32, 16, 2, 32>>(),
    delta<DeltaCfg<4, 8, 16, 64, 4, 48>>(),
};

const DeltaCase kReplays[] = {
    delta<DeltaCfg<2, 2, 128, 128, 4, 64, true>>(),
    delta<DeltaCfg<2, 6, 128, 128, 4, 32, true>>(),
    delta<DeltaCfg<1, 2, 64, 32, 4, 64, true>>(),
    delta<DeltaCfg<3, 3, 16, 48, 3, 16, true>>(),
    delta<DeltaCfg<1, 3, 32, 16, 2, 32, true>>(),
    delta<DeltaCfg<4, 8, 16, 64, 4, 48, true>>(),
};

// q is interleaved with a gate of the same width, and k is part of a wider
// row, as in the fused projection.
template <int kH, int kHkv, int kD, int kRotary, bool kNorm, bool kOne,
          class Element>
struct AttentionCfg {
  static constexpr int kHeads = kH, kKvHeads = kHkv, kHeadDim = kD,
                       kRotaryDim = kRotary;
  static constexpr int kQStride = 2 * kH * kD + 16, kQHeadStride = 2 * kD;
  static constexpr int kKStride = kHkv * kD + 32, kVStride = kHkv * kD;
  static constexpr int kOutStride = kH * kD;
  static constexpr float kScale = 0.11f, kNormEps = 1e-6f;
  static constexpr bool kQkNorm = kNorm, kNormPlusOne = kOne;
  using Kv = Element;
  static constexpr float kInvFreq[] = {
      1.0f,  0.8f,  0.6f,  0.5f,  0.4f,  0.3f,  0.2f,  0.15f,
      0.1f,  0.08f, 0.06f, 0.05f, 0.04f, 0.03f, 0.02f, 0.015f,
      1e-2f, 8e-3f, 6e-3f, 5e-3f, 4e-3f, 3e-3f, 2e-3f, 15e-4f,
      1e-3f, 8e-4f, 6e-4f, 5e-4f, 4e-4f, 3e-4f, 2e-4f, 15e-5f};
};

template <class Cfg>
void runDecode(void *const *args, const LatheContext *ctx) {
  using Kv = typename Cfg::Kv;
  float *const *p = (float *const *)args;
  attentionDecode<Cfg, 8>(ctx, p[0], p[1], p[2], p[3], p[4], (Kv *)args[5],
                          (Kv *)args[6], p[7]);
}
template <class Cfg>
void runPrefill(void *const *args, const LatheContext *ctx) {
  using Kv = typename Cfg::Kv;
  float *const *p = (float *const *)args;
  attentionPrefill<Cfg>(ctx, p[0], p[1], p[2], p[3], p[4], (Kv *)args[5],
                        (Kv *)args[6], p[7]);
}

template <class C> constexpr AttentionCase attention() {
  constexpr AttentionShape shape = AttentionDims<C>::shape();
  return {C::kHeads,
          C::kKvHeads,
          C::kHeadDim,
          C::kRotaryDim,
          C::kQStride,
          C::kQHeadStride,
          C::kKStride,
          C::kVStride,
          C::kOutStride,
          C::kScale,
          C::kNormEps,
          C::kQkNorm,
          C::kNormPlusOne,
          sizeof(typename C::Kv) == 2,
          C::kInvFreq,
          runDecode<C>,
          runPrefill<C>,
          attentionDecodeScratch(shape, 8).bytes,
          attentionPrefillScratch(shape).bytes};
}

const AttentionCase kAttentions[] = {
    attention<AttentionCfg<8, 2, 64, 16, true, true, float>>(),
    attention<AttentionCfg<6, 1, 128, 32, true, true, float>>(),
    attention<AttentionCfg<3, 3, 16, 16, true, false, float>>(),
    attention<AttentionCfg<4, 2, 32, 0, false, false, float>>(),
    attention<AttentionCfg<5, 1, 48, 12, false, false, float>>(),
    attention<AttentionCfg<7, 1, 256, 64, true, true, float>>(),
    attention<AttentionCfg<6, 2, 64, 32, true, true, u16>>(),
};

template <int kWidth, bool kPlusOne>
void runNorm(void *const *args, const LatheContext *ctx) {
  float *const *p = (float *const *)args;
  rmsNorm<kWidth, kPlusOne>(ctx, p[0], p[1], 1e-6f, p[2]);
}

const NormCase kNorms[] = {
    {1024, true, 1e-6f, runNorm<1024, true>},
    {96, false, 1e-6f, runNorm<96, false>},
    {37, true, 1e-6f, runNorm<37, true>},
    {5, false, 1e-6f, runNorm<5, false>},
};

void runSinCos(double x, float *sine, float *cosine) {
  SinCos at = sinCos(x);
  *sine = at.sin;
  *cosine = at.cos;
}

template <class T, int n> constexpr int countOf(const T (&)[n]) { return n; }

} // namespace

#define LATHE_STRING_OF(x) #x
#define LATHE_STRING(x) LATHE_STRING_OF(x)

const MixerKernels lathe::test::LATHE_VARIANT = {LATHE_STRING(LATHE_VARIANT),
                                                 kDeltas,
                                                 kReplays,
                                                 countOf(kDeltas),
                                                 kAttentions,
                                                 countOf(kAttentions),
                                                 kNorms,
                                                 countOf(kNorms),
                                                 runSinCos};
static_assert(countOf(kDeltas) == countOf(kReplays));
