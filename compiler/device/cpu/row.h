//===- row.h - reductions over a computed row -------------------*- C++ -*-===//
//
// For prologues that normalise what they compute rather than what they load.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_ROW_H
#define LATHE_COMPILER_DEVICE_CPU_ROW_H

#include "compiler/device/cpu/prelude.h"

namespace lathe {

/// out[g] = 1 / sqrt(mean(x^2) + eps) over columns [g * Group, (g + 1) * Group)
/// of the row whose columns k, k + 1, ..., k + 15 are f(k).
template <int Width, int Group, class Fn>
LATHE_INLINE void rmsScalesOf(Fn f, float eps, float (&out)[Width / Group]) {
  static_assert(Group % LATHE_LANES == 0 && Width % Group == 0);
  for (int g = 0; g < Width / Group; ++g) {
    f32x16 acc = splat(0.0f);
    for (int k = g * Group; k < (g + 1) * Group; k += LATHE_LANES) {
      f32x16 v = f(k);
      acc = fma(v, v, acc);
    }
    out[g] = rsqrt(sum(acc) / (float)Group + eps);
  }
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_ROW_H
