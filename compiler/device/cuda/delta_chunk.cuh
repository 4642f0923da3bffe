//===- delta_chunk.cuh - matrices of split halves -------------*- CUDA -*-===//
//
// What deltaPrepare writes and deltaScan reads: rows of numbers x = u + l, the
// upper half u = f16(x) and the lower half l = f16(x - u), laid out by
// deltaRowBytes as [u of all columns][l of all columns][16 bytes].
//
// An f16 resolves 2^-25 at best, so l is exact to 2^-22 of x only where x is
// not small. Hence the scales below for what is bounded: |k|, |q|, |P| <= 1,
// and |M| <= 2 because the symmetric part of M^{-1} = diag(1 / beta) + L / beta
// is I / 2 plus half a Gram matrix, at least. V and S have a scale of their own
// (deltaScan).
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_DELTA_CHUNK_CUH
#define LATHE_COMPILER_DEVICE_CUDA_DELTA_CHUNK_CUH

#include "compiler/device/cuda/delta.cuh"

namespace lathe {

/// Stored k, q and P are larger by the first, stored M by the second.
constexpr float kDeltaKeyScale = 64.0f, kDeltaSolveScale = 4096.0f;

/// x and y, two columns of a row, as upper and lower halves.
LATHE_DEVICE void splitPair(float x, float y, u32 &upper, u32 &lower) {
  upper = packHalf(x, y);
  lower = packHalf(x - lowerHalf(upper), y - upperHalf(upper));
}

/// Column `column` of a row of kWidth.
template <int kWidth>
LATHE_DEVICE void storeSplit(char *row, int column, float x) {
  u16 upper = floatToHalf(x);
  ((u16 *)row)[column] = upper;
  ((u16 *)row)[kWidth + column] = floatToHalf(x - halfToFloat(upper));
}

/// The A operand of an mma, [16 x 16].
struct SplitTile {
  u32 upper[4], lower[4];
};

/// From two accumulators, columns 0-7 and 8-15.
LATHE_DEVICE void splitTile(const float (&left)[4], const float (&right)[4],
                            SplitTile &a) {
  splitPair(left[0], left[1], a.upper[0], a.lower[0]);
  splitPair(left[2], left[3], a.upper[1], a.lower[1]);
  splitPair(right[0], right[1], a.upper[2], a.lower[2]);
  splitPair(right[2], right[3], a.upper[3], a.lower[3]);
}
/// From 16 rows in shared memory; `rows` points to the first column.
template <int kWidth>
LATHE_DEVICE void loadTile(const char *rows, SplitTile &a) {
  const char *at =
      rows + lane() % 16 * deltaRowBytes(kWidth) + lane() / 16 * 16;
  ldmatrix(a.upper, at);
  ldmatrix(a.lower, at + 2 * kWidth);
}

/// d += A B^T for B of 8 rows and 16 columns in shared memory, `rows` pointing
/// to the first column. The small products come first.
template <int kWidth>
LATHE_DEVICE void multiplySplit(float (&d)[4], const SplitTile &a,
                                const char *rows) {
  u32 b[4];
  ldmatrix(b, rows + lane() % 8 * deltaRowBytes(kWidth) + lane() / 8 % 2 * 16 +
                  lane() / 16 * 2 * kWidth);
  mma(d, a.lower, b[0], b[1]);
  mma(d, a.upper, b[2], b[3]);
  mma(d, a.upper, b[0], b[1]);
}
/// d += A B for B of 16 rows and 8 columns.
template <int kWidth>
LATHE_DEVICE void multiplySplitPlain(float (&d)[4], const SplitTile &a,
                                     const char *rows) {
  u32 b[4];
  ldmatrixTransposed(b, rows + lane() % 16 * deltaRowBytes(kWidth) +
                            lane() / 16 * 2 * kWidth);
  mma(d, a.lower, b[0], b[1]);
  mma(d, a.upper, b[2], b[3]);
  mma(d, a.upper, b[0], b[1]);
}

/// One chunk's part of the scratch.
template <class Cfg> struct DeltaChunk {
  static constexpr CudaDeltaShape kShape = DeltaDims<Cfg>::shape();
  static constexpr CudaDeltaScratch kAt = deltaChunkScratch(kShape);

  char *base;

  /// Rows of k, then of q.
  LATHE_DEVICE_MEMBER char *keys(int keyHead) const {
    return base + (i64)keyHead * deltaKeyBytes(kShape);
  }
  /// Rows of M, then of P, then e^G and e^{G_n - G}.
  LATHE_DEVICE_MEMBER char *matrices(int head) const {
    return base + kAt.heads + (i64)head * kDeltaHeadBytes;
  }
  /// v of 16 columns in the order of deltaScan's accumulators: for both halves
  /// of the columns and of the tokens, lane (g, q) has column g at tokens 2q,
  /// 2q + 1, 2q + 8, 2q + 9.
  LATHE_DEVICE_MEMBER Float4 *values(int head, int column) const {
    return (Float4 *)(base + kAt.values + (i64)head * deltaValueBytes(kShape)) +
           column / 16 * (kDeltaChunk * 16 / 4);
  }
  /// The largest |v| of 16 columns, for both halves of the tokens.
  LATHE_DEVICE_MEMBER float *peaks(int head, int column) const {
    return (float *)(base + kAt.peaks + (i64)head * deltaPeakBytes(kShape)) +
           column / 16 * 2;
  }
};
template <class Cfg>
LATHE_DEVICE DeltaChunk<Cfg> deltaChunk(const LatheLaunch &ctx, int chunk) {
  constexpr i64 kBytes = DeltaChunk<Cfg>::kAt.bytes;
  return {ctx.scratch + chunk * kBytes};
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_DELTA_CHUNK_CUH
