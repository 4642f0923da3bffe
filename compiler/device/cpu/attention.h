//===- attention.h - what both attention kernels share ----------*- C++ -*-===//
//
// Grouped-query attention with a KV cache: q and k of a head are normalized
// (optional) and rotated, k and v are appended to the cache, and
//
//   out = sum_j softmax_j(q . k_j * scale) v_j    over positions j <= own
//
// with the softmax computed online: blocks of kScoreBlock positions, each
// rescaling what came before (arXiv 2205.14135).
//
// Layouts: q, k, v rows with the config's strides, heads of k and v dense;
// cache [kvHeads][ctx->capacity][D] of Cfg::Kv, float or bfloat16 (u16);
// out [T][heads * D] with kOutStride. Query head h reads kv head
// h / (heads / kvHeads). D is a multiple of 16.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_ATTENTION_H
#define LATHE_COMPILER_DEVICE_CPU_ATTENTION_H

#include "compiler/device/cpu/norm.h"
#include "compiler/device/cpu/rope.h"
#include "compiler/device/cpu/scratch_mixers.h"
#include "compiler/device/cpu/tile.h"

namespace lathe {

constexpr float kMinusInfinity = -__builtin_inff();

template <class Cfg> struct AttentionDims {
  static constexpr int kD = Cfg::kHeadDim;
  static constexpr int kHalf = Cfg::kRotaryDim / 2;
  static constexpr int kGroup = Cfg::kHeads / Cfg::kKvHeads;
  static constexpr AttentionShape shape() {
    return {Cfg::kHeads, Cfg::kKvHeads, Cfg::kHeadDim, Cfg::kRotaryDim,
            (int)sizeof(typename Cfg::Kv)};
  }
  static_assert(kD % 16 == 0 && Cfg::kRotaryDim % 2 == 0);
  static_assert(Cfg::kHeads % Cfg::kKvHeads == 0);
};

template <class Cfg> struct AttentionArgs {
  const float *q, *k, *v, *qNorm, *kNorm;
  typename Cfg::Kv *kCache, *vCache;
  float *out;
};

template <class Cfg>
LATHE_INLINE void angles(int position, float *cosines, float *sines) {
  if constexpr (Cfg::kRotaryDim > 0)
    ropeAngles<Cfg::kRotaryDim>(position, Cfg::kInvFreq, cosines, sines);
}

/// One head of q or k, normalized, rotated and scaled.
template <class Cfg>
static void placeHead(const float *x, const float *weight, const float *cosines,
                      const float *sines, float scale, float *to) {
  constexpr int kD = Cfg::kHeadDim;
  if constexpr (Cfg::kQkNorm)
    normRow<kD, Cfg::kNormPlusOne>(x, weight, Cfg::kNormEps, to);
  else
    for (int i = 0; i < kD; i += 16)
      store(to + i, load(x + i));
  if constexpr (Cfg::kRotaryDim > 0)
    rope<Cfg::kRotaryDim>(to, cosines, sines);
  if (scale != 1.0f)
    for (int i = 0; i < kD; i += 16)
      store(to + i, load(to + i) * scale);
}

/// The rows that the cache gets for one token of one kv head.
template <class Cfg>
static void placeKeyValue(const AttentionArgs<Cfg> &args, int token, int kvHead,
                          const float *cosines, const float *sines,
                          typename Cfg::Kv *k, typename Cfg::Kv *v) {
  constexpr int kD = Cfg::kHeadDim;
  alignas(64) float key[kD];
  const float *value = args.v + (i64)token * Cfg::kVStride + kvHead * kD;
  placeHead<Cfg>(args.k + (i64)token * Cfg::kKStride + kvHead * kD, args.kNorm,
                 cosines, sines, 1.0f, key);
  for (int i = 0; i < kD; i += 16) {
    storeAs(k + i, load(key + i));
    storeAs(v + i, load(value + i));
  }
}

/// Turns a block of scores into weights e^{s - peak}, zero from `valid` on,
/// and updates the row's peak and total. Returns the factor that brings what
/// was summed under the old peak to the new one.
LATHE_INLINE float softmaxBlock(float *scores, int valid, float &peak,
                                float &total) {
  constexpr int kVectors = kScoreBlock / 16;
  const i32x16 lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  f32x16 s[kVectors], highest = splat(kMinusInfinity);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    i32x16 column = lanes + 16 * i;
    s[i] = column < valid ? load(scores + 16 * i) : splat(kMinusInfinity);
    highest = __builtin_elementwise_max(highest, s[i]);
  }
  float blockPeak = maxOf(highest);
  float newPeak = blockPeak > peak ? blockPeak : peak;
  f32x16 sums = splat(0.0f);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    i32x16 column = lanes + 16 * i;
    s[i] = column < valid ? exp(s[i] - newPeak) : splat(0.0f);
    sums += s[i];
    store(scores + 16 * i, s[i]);
  }
  float factor = exp(peak - newPeak);
  peak = newPeak;
  total = fma(total, factor, sum(sums));
  return factor;
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_ATTENTION_H
