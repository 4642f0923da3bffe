//===- matvec_input.cuh - activations of a matvec in operand form ===//
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

/// Inverse root mean squares of whole rows: every thread has columns of every
/// token, so that all loads are under way at once.
template <int kTokens, int kWidth, class F>
LATHE_DEVICE void rmsScalesOfRows(float eps, float *out, float *partial, F f) {
  const int warps = threadCount() / 32;
  const int w = warp(); // all lanes take part in finding it
  float sums[kTokens];
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    float sum = 0.0f;
#pragma unroll 4
    for (int k = threadX() * 4; k < kWidth; k += threadCount() * 4)
      sum = addSquares(sum, fourOf<kWidth>(f, t, k));
    sums[t] = sum;
  }
#pragma unroll
  for (int t = 0; t < kTokens; ++t)
    sums[t] = warpSum(sums[t]);
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

/// The same of the groups [firstGroup, firstGroup + groups) of every row: some
/// lanes have a group, and a warp loads several times as many before it adds.
template <int kTokens, int kWidth, int kGroup, class F>
LATHE_DEVICE void rmsScalesOfGroups(float eps, float *out, F f, int firstGroup,
                                    int groups) {
  constexpr int kLanes = kGroup % 128 == 0  ? 32
                         : kGroup % 64 == 0 ? 16
                         : kGroup % 32 == 0 ? 8
                                            : 4;
  constexpr int kEach = 32 / kLanes, kAhead = 4;
  static_assert(kGroup % (4 * kLanes) == 0);
  const int warps = threadCount() / 32, member = lane() % kLanes * 4;
  for (int base = warp() * kEach + lane() / kLanes;
       base - lane() / kLanes < kTokens * groups;
       base += warps * kEach * kAhead) {
    float sums[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int i = base + a * warps * kEach;
      sums[a] = 0.0f;
      if (i < kTokens * groups)
        for (int k = member; k < kGroup; k += kLanes * 4)
          sums[a] = addSquares(
              sums[a], fourOf<kWidth>(f, i / groups,
                                      (firstGroup + i % groups) * kGroup + k));
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
#pragma unroll
      for (int mask = kLanes / 2; mask > 0; mask /= 2)
        sums[a] += shuffleXor(sums[a], mask);
      const int i = base + a * warps * kEach;
      if (member == 0 && i < kTokens * groups)
        out[i / groups * (kWidth / kGroup) + firstGroup + i % groups] =
            rsqrt(sums[a] / (float)kGroup + eps);
    }
  }
}

/// Inverse root mean squares per token and group of columns, computed by the
/// whole block in an order that depends on nothing but the token, for columns
/// [first, first + count) at least. `f(t, k)` is the value to be normalised.
/// Ends with all threads seeing `out` [t][group]; `partial` has room for a
/// float per warp and token.
template <int kTokens, int kWidth, int kGroup, class F>
LATHE_DEVICE void rmsScales(float eps, float *out, float *partial, F f,
                            int first = 0, int count = kWidth) {
  if constexpr (kWidth == kGroup) {
    rmsScalesOfRows<kTokens, kWidth>(eps, out, partial, f);
  } else {
    int end = first + count < kWidth ? first + count : kWidth;
    int firstGroup = first / kGroup;
    int groups = (end + kGroup - 1) / kGroup - firstGroup;
    if (groups > 0)
      rmsScalesOfGroups<kTokens, kWidth, kGroup>(eps, out, f, firstGroup,
                                                 groups);
  }
  syncThreads();
}

template <int kColumns, int kTokens, int kSplit> class MatvecInput {
public:
  static constexpr MatvecShape kShape{kColumns, kTokens, kSplit, 0, 0, 0, 0, 0};

  LATHE_DEVICE_MEMBER MatvecInput(char *x, int split)
      : x(x), begin(split * kShape.splitColumns()) {}

  /// The first column of this block, and how many it has.
  LATHE_DEVICE_MEMBER int firstColumn() const { return begin; }
  static constexpr int kCount = kShape.splitColumns();

  /// Stores f(t, k) for columns [kBegin, kBegin + kWidth) of the input.
  template <int kBegin, int kWidth, class F>
  LATHE_DEVICE_MEMBER void fill(F f) const {
    static_assert(kBegin % 4 == 0);
    // Only the fours that this block has, so that loads follow each other.
    const int low = begin > kBegin ? begin - kBegin : 0;
    const int end = begin + kCount - kBegin;
    const int fours = ((end < kWidth ? end : kWidth) - low + 3) / 4;
    if (kSplit > 1 && fours <= 0)
      return;
#pragma unroll 4
    for (int i = threadX(); i < kTokens * fours; i += threadCount()) {
      int t = kTokens == 1 ? 0 : i / fours;
      int k = low + (i - t * fours) * 4;
      store(t, kBegin + k - begin, fourOf<kWidth>(f, t, k) * kActivationScale);
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
        store(i / (kRest / 4), at, Float4{0, 0, 0, 0});
      }
  }

private:
  /// Four columns from `at` (a multiple of 4) are half of a lane's slots.
  LATHE_DEVICE_MEMBER void store(int t, int at, Float4 v) const {
    HalfParts parts(v);
    int block = at / 32, q = at % 16 / 4, half = at % 32 / 16;
    char *to = x + (block * 2 * kTokens + t) * 64 + q * 16 + half * 8;
    *(Word2 *)to = {parts.upper[0], parts.upper[1]};
    *(Word2 *)(to + kTokens * 64) = {parts.lower[0], parts.lower[1]};
  }

  char *x;
  int begin; ///< first column of this block
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATVEC_INPUT_CUH
