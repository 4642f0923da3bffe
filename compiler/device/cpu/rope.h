//===- rope.h - rotary position embedding for the CPU -----------*- C++ -*-===//
//
// Rotates dimensions (i, i + rotary / 2) of a head, i < rotary / 2, by the
// angle position * invFreq[i]; the other dimensions stay.
//
// Angles reach 262144 radians, where a float has lost the fraction that
// matters: the product, its reduction to [-pi/4, pi/4] (pi/2 in two doubles,
// Cody and Waite) and the polynomials are in double precision.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_ROPE_H
#define LATHE_COMPILER_DEVICE_CPU_ROPE_H

#include "compiler/device/cpu/prelude.h"

namespace lathe {

struct SinCos {
  float sin, cos;
};

/// Sine and cosine of x, |x| < 2^30, to float precision.
LATHE_INLINE SinCos sinCos(double x) {
  double n = __builtin_roundeven(x * 0.63661977236758134308);
  double r = __builtin_fma(n, -1.57079632679489661923, x);
  r = __builtin_fma(n, -6.12323399573676603587e-17, r);
  double z = r * r;
  // Taylor series: on |r| <= pi/4 the first term left out is below 1e-13.
  double s = 1.0 / 6227020800.0;
  s = __builtin_fma(s, z, -1.0 / 39916800.0);
  s = __builtin_fma(s, z, 1.0 / 362880.0);
  s = __builtin_fma(s, z, -1.0 / 5040.0);
  s = __builtin_fma(s, z, 1.0 / 120.0);
  s = __builtin_fma(s, z, -1.0 / 6.0);
  s = __builtin_fma(s * z, r, r);
  double c = -1.0 / 87178291200.0;
  c = __builtin_fma(c, z, 1.0 / 479001600.0);
  c = __builtin_fma(c, z, -1.0 / 3628800.0);
  c = __builtin_fma(c, z, 1.0 / 40320.0);
  c = __builtin_fma(c, z, -1.0 / 720.0);
  c = __builtin_fma(c, z, 1.0 / 24.0);
  c = __builtin_fma(c, z, -0.5);
  c = __builtin_fma(c, z, 1.0);
  int quadrant = (int)n & 3;
  double sine = quadrant & 1 ? c : s, cosine = quadrant & 1 ? s : c;
  return {(float)(quadrant & 2 ? -sine : sine),
          (float)((quadrant + 1) & 2 ? -cosine : cosine)};
}

/// The angles of one position: kRotary / 2 cosines and sines.
template <int kRotary>
static void ropeAngles(int position, const float *invFreq, float *cosines,
                       float *sines) {
  for (int i = 0; i < kRotary / 2; ++i) {
    SinCos at = sinCos((double)position * (double)invFreq[i]);
    cosines[i] = at.cos;
    sines[i] = at.sin;
  }
}

template <int kRotary>
LATHE_INLINE void rope(float *head, const float *cosines, const float *sines) {
  constexpr int kHalf = kRotary / 2;
  for (int i = 0; i < kHalf; ++i) {
    float x = head[i], y = head[i + kHalf];
    head[i] = fma(x, cosines[i], -(y * sines[i]));
    head[i + kHalf] = fma(y, cosines[i], x * sines[i]);
  }
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_ROPE_H
