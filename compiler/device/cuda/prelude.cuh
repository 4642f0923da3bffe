//===- prelude.cuh - what every kernel uses --------------------*- CUDA -*-===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_PRELUDE_CUH
#define LATHE_COMPILER_DEVICE_CUDA_PRELUDE_CUH

#include "compiler/device/cuda/intrinsics_math.cuh"
#include "runtime/base/CudaAbi.h"

namespace lathe {

/// Floats from row to row of an activation of this width.
constexpr int strideOf(int width) { return (width + 15) / 16 * 16; }

constexpr int roundUp(int value, int multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
constexpr int ceilDiv(int a, int b) { return (a + b - 1) / b; }

LATHE_DEVICE float lowerHalf(u32 pair) { return halfToFloat((u16)pair); }
LATHE_DEVICE float upperHalf(u32 pair) { return halfToFloat(pair >> 16); }
LATHE_DEVICE u32 twice(u16 half) { return half * 0x10001u; }
LATHE_DEVICE float bf16ToFloat(u16 h) { return bitsFloat((u32)h << 16); }

/// A row's value; the printed expressions of all targets spell it so.
LATHE_DEVICE float load(const float *p) { return *p; }
// Without a branch, which a division has: what comes behind must not wait.
LATHE_DEVICE float sigmoid(float x) { return reciprocal(1.0f + exp(-x)); }
LATHE_DEVICE float silu(float x) { return x * sigmoid(x); }

// Four columns at once: the same expressions, where rows are aligned.
LATHE_DEVICE Float4 loadFour(const float *p) { return *(const Float4 *)p; }
LATHE_DEVICE Float4 operator+(Float4 a, Float4 b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}
LATHE_DEVICE Float4 operator*(Float4 a, Float4 b) {
  return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w};
}
LATHE_DEVICE Float4 operator*(Float4 a, float b) {
  return {a.x * b, a.y * b, a.z * b, a.w * b};
}
LATHE_DEVICE Float4 operator+(float a, Float4 b) {
  return {a + b.x, a + b.y, a + b.z, a + b.w};
}
LATHE_DEVICE Float4 sigmoid(Float4 v) {
  return {sigmoid(v.x), sigmoid(v.y), sigmoid(v.z), sigmoid(v.w)};
}
LATHE_DEVICE Float4 silu(Float4 v) {
  return {silu(v.x), silu(v.y), silu(v.z), silu(v.w)};
}

/// Columns [k, k + 4) of f, which gives a float or a Float4 at a time; zero
/// from kWidth on.
template <int kWidth, class F> LATHE_DEVICE Float4 fourOf(F f, int t, int k) {
  if constexpr (sizeof(f(t, k)) == sizeof(Float4)) {
    static_assert(kWidth % 4 == 0);
    return f(t, k);
  } else {
    return {f(t, k), k + 1 < kWidth ? f(t, k + 1) : 0.0f,
            k + 2 < kWidth ? f(t, k + 2) : 0.0f,
            k + 3 < kWidth ? f(t, k + 3) : 0.0f};
  }
}
LATHE_DEVICE float addSquares(float sum, Float4 v) {
  return fma(v.w, v.w, fma(v.z, v.z, fma(v.y, v.y, fma(v.x, v.x, sum))));
}

/// The sum over the warp, in every lane, in a fixed order.
LATHE_DEVICE float warpSum(float x) {
  for (int mask = 16; mask > 0; mask /= 2)
    x += shuffleXor(x, mask);
  return x;
}
LATHE_DEVICE float warpMax(float x) {
  for (int mask = 16; mask > 0; mask /= 2)
    x = maximum(x, shuffleXor(x, mask));
  return x;
}
/// Each of several numbers, side by side: alone, a shuffle waits for the last.
template <int kCount> LATHE_DEVICE void warpSum(float (&x)[kCount]) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2)
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      x[i] += shuffleXor(x[i], mask);
}
template <int kCount> LATHE_DEVICE void warpMax(float (&x)[kCount]) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2)
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      x[i] = maximum(x[i], shuffleXor(x[i], mask));
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_PRELUDE_CUH
