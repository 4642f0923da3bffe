//===- rope.cuh - rotary position embedding --------------------*- CUDA -*-===//
//
// Sine and cosine of position * frequency with an absolute error near 1e-7, for
// positions and angles below four million.
//
// A float has lost the fraction that matters there, and a GeForce does two
// operations in double precision per clock, so: the product is kept exactly in
// two floats, multiples of pi/2 (three floats) are taken out by the method of
// Cody and Waite, and Taylor polynomials do the rest.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_ROPE_CUH
#define LATHE_COMPILER_DEVICE_CUDA_ROPE_CUH

#include "compiler/device/cuda/prelude.cuh"

namespace lathe {

struct SinCos {
  float sin, cos;
};

/// Sine and cosine of an angle that is at most pi/4 and a little.
LATHE_DEVICE SinCos sinCosNearZero(float x) {
  // The first terms left out are below 3e-9.
  float z = x * x;
  float s = 1.0f / 362880;
  s = fma(s, z, -1.0f / 5040);
  s = fma(s, z, 1.0f / 120);
  s = fma(s, z, -1.0f / 6);
  float c = -1.0f / 3628800;
  c = fma(c, z, 1.0f / 40320);
  c = fma(c, z, -1.0f / 720);
  c = fma(c, z, 1.0f / 24);
  c = fma(c, z, -0.5f);
  return {fma(s * z, x, x), fma(c, z, 1.0f)};
}

LATHE_DEVICE SinCos sinCosOf(int position, float frequency) {
  float angle = (float)position * frequency;
  float rest = fma((float)position, frequency, -angle);
  // Adding 1.5 * 2^23 rounds to an integer, whose last bits name the quadrant.
  constexpr float kRounder = 12582912.0f;
  float rounded = fma(angle, 0.636619772f, kRounder);
  float turns = add(rounded, -kRounder);
  // The first difference is exact: a multiple of 2^-24 below 1.
  float x = fma(turns, -1.57079637f, angle);
  rest = fma(turns, 4.37113883e-8f, rest);
  rest = fma(turns, 1.71512451e-15f, rest);
  SinCos at = sinCosNearZero(add(x, rest));
  u32 quadrant = floatBits(rounded);
  float sine = quadrant & 1 ? at.cos : at.sin;
  float cosine = quadrant & 1 ? at.sin : at.cos;
  return {quadrant & 2 ? -sine : sine, (quadrant + 1) & 2 ? -cosine : cosine};
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_ROPE_CUH
