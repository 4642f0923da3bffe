//===- matvec_input.cuh - activations of a matvec in operand form *- CUDA
//-*-===//
//
// Every block prepares the activations it needs in shared memory: the printed
// prologue (norms, gates) gives a float per token and column, which is stored
// as an upper and a lower f16 part in the order of unit.cuh's OperandX.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATVEC_INPUT_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATVEC_INPUT_CUH

#include "compiler/device/cuda/linear_sizes.h"
#include "compiler/device/cuda/weights.cuh"

namespace lathe {

/// Inverse root mean squares per token and group of columns, computed by the
/// whole block in an order that depends on nothing but the token. `f(t, k)` is
/// the value to be normalised. Ends with all threads seeing `out` [t][group];
/// `partial` has room for a float per warp and token.
template <int kTokens, int kWidth, int kGroup, class F>
LATHE_DEVICE void rmsScales(float eps, float *out, float *partial, F f) {
  constexpr int kGroups = kWidth / kGroup;
  int warps = threadCount() / 32;
  if constexpr (kGroups > 1) {
    for (int i = warp(); i < kTokens * kGroups; i += warps) {
      int t = i / kGroups, first = i % kGroups * kGroup;
      float sum = 0.0f;
      for (int k = lane(); k < kGroup; k += 32) {
        float v = f(t, first + k);
        sum = fma(v, v, sum);
      }
      sum = warpSum(sum);
      if (lane() == 0)
        out[i] = rsqrt(sum / (float)kGroup + eps);
    }
  } else {
    const int w = warp(); // all lanes take part in finding it
    float sums[kTokens];
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      float sum = 0.0f;
#pragma unroll 4
      for (int k = threadX(); k < kWidth; k += threadCount()) {
        float v = f(t, k);
        sum = fma(v, v, sum);
      }
      sums[t] = warpSum(sum);
    }
    if (lane() == 0)
      for (int t = 0; t < kTokens; ++t)
        partial[t * warps + w] = sums[t];
    syncThreads();
    if (threadX() < kTokens) {
      float sum = 0.0f;
      for (int i = 0; i < warps; ++i)
        sum += partial[threadX() * warps + i];
      out[threadX()] = rsqrt(sum / (float)kWidth + eps);
    }
  }
  syncThreads();
}

template <int kColumns, int kTokens, int kSplit> class MatvecInput {
public:
  static constexpr MatvecShape kShape{kColumns, kTokens, kSplit, 0, 0, 0, 0, 0};

  LATHE_DEVICE_MEMBER MatvecInput(char *x, int split)
      : x(x), begin(split * kShape.splitColumns()) {}

  /// Stores f(t, k) for columns [kBegin, kBegin + kWidth) of the input.
  template <int kBegin, int kWidth, class F>
  LATHE_DEVICE_MEMBER void fill(F f) const {
    static_assert(kBegin % 4 == 0);
    constexpr int kFours = (kWidth + 3) / 4;
#pragma unroll 2
    for (int i = threadX(); i < kTokens * kFours; i += threadCount()) {
      int t = i / kFours, k = i % kFours * 4;
      int at = kBegin + k - begin;
      if (at < 0 || at >= kShape.splitColumns())
        continue;
      float v[4];
#pragma unroll
      for (int e = 0; e < 4; ++e)
        v[e] = k + e < kWidth ? f(t, k + e) * kActivationScale : 0.0f;
      store(t, at, v);
    }
  }
  /// Zeros from the last column to the end of the last unit.
  LATHE_DEVICE_MEMBER void fillRest() const {
    constexpr int kFirst = roundUp(kColumns, 4);
    constexpr int kRest = kShape.splitColumns() * kSplit - kFirst;
    if constexpr (kRest > 0)
      for (int i = threadX(); i < kTokens * (kRest / 4); i += threadCount()) {
        int at = kFirst + i % (kRest / 4) * 4 - begin;
        if (at < 0 || at >= kShape.splitColumns())
          continue;
        const float zeros[4] = {};
        store(i / (kRest / 4), at, zeros);
      }
  }

private:
  /// Four columns from `at` (a multiple of 4) are half of a lane's slots.
  LATHE_DEVICE_MEMBER void store(int t, int at, const float (&v)[4]) const {
    u32 upper[2] = {packHalf(v[0], v[1]), packHalf(v[2], v[3])};
    u32 lower[2];
#pragma unroll
    for (int i = 0; i < 2; ++i)
      lower[i] = packHalf(v[2 * i] - lowerHalf(upper[i]),
                          v[2 * i + 1] - upperHalf(upper[i]));
    int block = at / 32, q = at % 16 / 4, half = at % 32 / 16;
    char *to = x + (block * 2 * kTokens + t) * 64 + q * 16 + half * 8;
    *(u32 *)to = upper[0], *(u32 *)(to + 4) = upper[1];
    to += kTokens * 64;
    *(u32 *)to = lower[0], *(u32 *)(to + 4) = lower[1];
  }

  char *x;
  int begin; ///< first column of this block
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATVEC_INPUT_CUH
