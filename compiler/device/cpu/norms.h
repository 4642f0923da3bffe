//===- norms.h - root-mean-square scales of a row ---------------*- C++ -*-===//
//
// Reductions that prologues fuse into a linear kernel. The order of additions
// is fixed, so a token's result depends on nothing but the token.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_NORMS_H
#define LATHE_COMPILER_DEVICE_CPU_NORMS_H

#include "compiler/device/cpu/prelude.h"

namespace lathe {

/// v with the lanes from `count` on cleared.
LATHE_INLINE f32x16 firstLanes(f32x16 v, int count) {
  const i32x16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return lane < count ? v : splat(0.0f);
}

/// Sum of squares of x[0, Width); the padding of the row does not count.
template <int Width> LATHE_INLINE float sumOfSquares(const float *x) {
  f32x16 acc[4] = {};
  constexpr int full = Width / 16;
#pragma unroll 4
  for (int i = 0; i < full; ++i) {
    f32x16 v = load(x + 16 * i);
    acc[i % 4] = fma(v, v, acc[i % 4]);
  }
  if constexpr (Width % 16 != 0) {
    f32x16 v = firstLanes(load(x + 16 * full), Width % 16);
    acc[full % 4] = fma(v, v, acc[full % 4]);
  }
  return sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
}

/// 1 / sqrt(mean(x^2) + eps) over one row.
template <int Width> LATHE_INLINE float rmsScale(const float *x, float eps) {
  return rsqrt(sumOfSquares<Width>(x) / (float)Width + eps);
}

/// The same for each group of `Group` columns.
template <int Width, int Group>
LATHE_INLINE void rmsScales(const float *x, float eps,
                            float (&out)[Width / Group]) {
  static_assert(Width % Group == 0);
  for (int g = 0; g < Width / Group; ++g)
    out[g] = rmsScale<Group>(x + g * Group, eps);
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_NORMS_H
