//===- norm.h - root-mean-square norm for the CPU ---------------*- C++ -*-===//
//
// out = x / sqrt(mean(x^2) + eps) * w, or * (1 + w) for models that store the
// weight zero-centred. Used on whole activation rows by the norm kernel and on
// single heads of q and k by attention.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_NORM_H
#define LATHE_COMPILER_DEVICE_CPU_NORM_H

#include "compiler/device/cpu/norms.h"

namespace lathe {

/// Normalizes kWidth floats; out may be x.
template <int kWidth, bool kPlusOne>
static void normRow(const float *x, const float *weight, float eps,
                    float *out) {
  constexpr float kBase = kPlusOne ? 1.0f : 0.0f;
  constexpr int kWhole = kWidth / 16 * 16;
  float factor = rmsScale<kWidth>(x, eps);
  for (int i = 0; i < kWhole; i += 16)
    store(out + i, load(x + i) * factor * (kBase + load(weight + i)));
  for (int i = kWhole; i < kWidth; ++i)
    out[i] = x[i] * factor * (kBase + weight[i]);
}

/// The norm of every token of an activation kWidth floats wide, tokens split
/// over the team. The padding of a row becomes zero. Needs no scratch.
template <int kWidth, bool kPlusOne>
static void rmsNorm(const LatheContext *ctx, const float *x,
                    const float *weight, float eps, float *out) {
  constexpr int kStride = strideOf(kWidth);
  Range tokens = shareOf(ctx, ctx->tokens);
  for (int t = tokens.begin; t < tokens.end; ++t) {
    float *row = out + (i64)t * kStride;
    normRow<kWidth, kPlusOne>(x + (i64)t * kStride, weight, eps, row);
    for (int i = kWidth; i < kStride; ++i)
      row[i] = 0.0f;
  }
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_NORM_H
