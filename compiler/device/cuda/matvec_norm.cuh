//===- matvec_norm.cuh - the norm of a matvec's input ----------*- CUDA -*-===//
//
// A warp loads its slice of the activations once: the values wait in registers
// for the scale of their norm. Sums of squares are added in one order for
// every token count and split: within 64 columns over 16 lanes of four, then
// over the slices of the row.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATVEC_NORM_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATVEC_NORM_CUH

#include "compiler/device/cuda/linear_sizes.h"
#include "compiler/device/cuda/prelude.cuh"

namespace lathe {

/// An input that is what f gives.
struct NoNorm {
  static constexpr int kGroup = 0;
  float eps = 0.0f;
};
/// An input that is f times the inverse root mean square of a group of kGroup
/// columns of f's second result: the row, or 16, 32, 64 or 128.
template <int kGroup_> struct InputNorm {
  static constexpr int kGroup = kGroup_;
  float eps;
};

/// Which values of a slice a lane has: in chunk c of kChunk columns, the four
/// columns from column(c) on of the tokens token(i).
template <int kTokens> struct SliceLanes {
  static constexpr int kChunk = kTokens == 1 ? 128 : 64;
  static constexpr int kChunks = kMatvecSlice / kChunk;
  static constexpr int kFours = kChunk / 4 * kTokens; ///< of a chunk
  static constexpr int kEach = (kFours + 31) / 32;    ///< of a lane

  LATHE_DEVICE_MEMBER static bool has(int i) {
    return kFours % 32 == 0 ? i < kEach : lane() + 32 * i < kFours;
  }
  LATHE_DEVICE_MEMBER static int token(int i) {
    return (lane() + 32 * i) / (kChunk / 4);
  }
  LATHE_DEVICE_MEMBER static int column(int chunk) {
    return chunk * kChunk + lane() % (kChunk / 4) * 4;
  }
};

/// What a norm needs of a warp's slice, then the scales of its values: of a
/// lane those that SliceLanes counts from `first` on, kSome of them.
template <MatvecShape kShape, class Norm, int kSome> class SliceNorm {
  static constexpr int kTokens = kShape.tokens;
  static constexpr int kGroup = Norm::kGroup;
  static constexpr int kSlices = kShape.rowSlices();
  static constexpr int kOwn = kShape.ownTokens();
  using Lanes = SliceLanes<kOwn>;

public:
  static constexpr bool kRow = kGroup == kShape.columns;
  /// The scale of a row is left to those who finish its products: nobody waits
  /// for it. With two parts values below f16's range would lose of theirs.
  static constexpr bool kLater = kRow && kShape.parts == 1;
  static_assert(kGroup == 0 || kRow || kGroup == 16 || kGroup == 32 ||
                kGroup == 64 || kGroup == 128);

  const int first;

  LATHE_DEVICE_MEMBER explicit SliceNorm(int first) : first(first) {}
  LATHE_DEVICE_MEMBER void add(int i, int chunk, Float4 raw) {
    of[chunk][i] = addSquares(0.0f, raw);
  }
  LATHE_DEVICE_MEMBER float scale(int i, int chunk) const {
    return kGroup == 0 || kLater ? 1.0f : of[chunk][i];
  }

  /// Of a norm over groups: sums of chunks [first, last), an even number,
  /// become scales.
  LATHE_DEVICE_MEMBER void finishGroups(float eps, int first, int last) {
#pragma unroll
    for (int i = 0; i < kSome; ++i) {
      if (kGroup == 128 && kOwn > 1)
#pragma unroll
        for (int c = first; c < last; c += 2)
          of[c][i] = of[c + 1][i] = of[c][i] + of[c + 1][i];
#pragma unroll
      for (int c = first; c < last; ++c) {
        if (kGroup == 128 && kOwn == 1)
          of[c][i] += shuffleXor(of[c][i], 16);
        of[c][i] = rsqrt(lanesSum<(kGroup < 64 ? kGroup : 64) / 4>(of[c][i]) *
                             (1.0f / kGroup) +
                         eps);
      }
    }
  }

  /// Of a norm over rows: calls put(token, sum) for the slice's tokens.
  template <class Put> LATHE_DEVICE_MEMBER void leave(Put put) const {
#pragma unroll
    for (int i = 0; i < kSome; ++i) {
      // In the order of columns; a single token has the second and fourth 64
      // of them in lanes of their own.
      float sum = of[0][i];
      if (kOwn == 1) {
        const float second = of[1][i];
        sum += shuffleXor(sum, 16);
        sum += second;
        sum += shuffleXor(second, 16);
      } else {
#pragma unroll
        for (int c = 1; c < Lanes::kChunks; ++c)
          sum += of[c][i];
      }
      sum = lanesSum<16>(sum);
      if (lane() % (Lanes::kChunk / 4) == 0 && Lanes::has(first + i))
        put(Lanes::token(first + i), sum);
    }
  }
  /// When all have left theirs as `partial`, [token][slice of the row].
  LATHE_DEVICE_MEMBER void finishRows(float eps, const float *partial) {
#pragma unroll
    for (int i = 0; i < kSome; ++i) {
      const float scale = rowScale(eps, partial, Lanes::token(first + i));
#pragma unroll
      for (int c = 0; c < Lanes::kChunks; ++c)
        of[c][i] = scale;
    }
  }
  /// That of a token, which 16 lanes side by side ask for; of one that does not
  /// exist another's.
  LATHE_DEVICE_MEMBER static float rowScale(float eps, const float *partial,
                                            int token) {
    token = token < kTokens ? token : kTokens - 1;
    float sum = 0.0f;
#pragma unroll
    for (int s = 0; s < kSlices; s += 16)
      if (kSlices % 16 == 0 || s + lane() % 16 < kSlices)
        sum += partial[token * kSlices + s + lane() % 16];
    return rsqrt(lanesSum<16>(sum) * (1.0f / kShape.columns) + eps);
  }

private:
  /// The sum over kCount neighbouring lanes, in all of them.
  template <int kCount> LATHE_DEVICE_MEMBER static float lanesSum(float x) {
#pragma unroll
    for (int mask = kCount / 2; mask > 0; mask /= 2)
      x += shuffleXor(x, mask);
    return x;
  }

  float of[Lanes::kChunks][kSome];
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATVEC_NORM_CUH
