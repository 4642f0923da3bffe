//===- prelude.cuh - what every kernel uses ---------------------*- CUDA
//-*-===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_PRELUDE_CUH
#define LATHE_COMPILER_DEVICE_CUDA_PRELUDE_CUH

#include "compiler/device/cuda/intrinsics.cuh"
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
LATHE_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }
LATHE_DEVICE float silu(float x) { return x / (1.0f + exp(-x)); }

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

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_PRELUDE_CUH
