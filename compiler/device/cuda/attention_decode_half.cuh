//===- attention_decode_half.cuh - products with an f16 cache --*- CUDA -*-===//
//
// The products of attention_decode.cuh where K and V are f16. Positions and
// columns of V are the rows of an mma, query rows its columns, so that eight of
// these cost no more than they should.
//
// Queries and softmax weights keep their float precision: each is the sum of an
// upper and a lower f16, which are multiplied one after the other.
//
// Scores: a warp has half of the positions and a quarter of the columns, whose
// part of the queries it keeps in registers; the four parts of a score meet in
// shared memory. Values: a warp has every eighth group of 16 columns.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_HALF_CUH
#define LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_HALF_CUH

#include "compiler/device/cuda/attention_decode_rows.cuh"

namespace lathe {

template <class Cfg> class DecodeHalf {
  using A = AttentionDims<Cfg>;
  static constexpr AttentionDecodeShape kShape = DecodePlan<Cfg>::kShape;
  static constexpr int kD = A::kD, kRowBytes = A::kRowBytes;
  static constexpr int kTiles = kShape.tiles(), kScores = kShape.scoreStride();
  static constexpr int kParts = kShape.parts(), kSteps = kShape.partSteps();
  static constexpr int kPart = 8 * kTiles * kScores; ///< floats
  static constexpr int kPairs = ceilDiv(kD / 16, 8);
  static constexpr int kQueryStride = kShape.queryStride();
  static_assert(kShape.leaf() == 64 && kShape.threads() == 256 && kParts == 4);
  static_assert(8 * kQueryStride <= kShape.scoreBytes());

  char *const shared;
  const int warp;
  u32 queries[kTiles][kSteps][4];  ///< upper b0, b1, lower b0, b1
  DecodeSums<kTiles, kPairs> sums; ///< rows of tile 2 q + i % 2

public:
  LATHE_DEVICE_MEMBER explicit DecodeHalf(const DecodeTeam &team)
      : shared(team.shared), warp(team.warp) {}

  LATHE_DEVICE_MEMBER void storeQuery(int tile, int i, float x) const {
    u16 *row =
        (u16 *)(shared + kShape.scoresAt() + (8 * tile + warp) * kQueryStride);
    const u16 upper = floatToHalf(x);
    if (i < kD) {
      row[i] = upper;
      row[kD + i] = floatToHalf(add(x, -halfToFloat(upper)));
    }
  }
  /// All queries have been stored; scores will overwrite them.
  LATHE_DEVICE_MEMBER void takeQueries() {
    const int matrix = lane() / 8;
    const char *row = shared + kShape.scoresAt() + lane() % 8 * kQueryStride +
                      matrix / 2 * (2 * kD) + matrix % 2 * 16;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int k = 0; k < kSteps; ++k)
        if (hasStep(k))
          ldmatrix(queries[tile][k],
                   row + 8 * tile * kQueryStride + 32 * stepOf(k));
  }

  /// between(part) is called for four parts of the work.
  template <class Between>
  LATHE_DEVICE_MEMBER void score(int stage, Between between) const {
    const int matrix = lane() / 8, first = (u32)warp / kParts * 32;
    const char *keys = shared + kShape.keysAt(stage) + first * kRowBytes;
    const int at = pieceAt<kRowBytes>(matrix % 2 * 8 + lane() % 8, matrix / 2);
    float s[2][kTiles][4] = {};
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      if (hasStep(k)) {
        u32 key[2][4];
#pragma unroll
        for (int m = 0; m < 2; ++m)
          ldmatrix(key[m],
                   keys + m * 16 * kRowBytes + pieceAfter(at, 2 * stepOf(k)));
        // Upper parts of all, then lower ones, so that no mma awaits the last.
#pragma unroll
        for (int half = 0; half < 4; half += 2)
#pragma unroll
          for (int m = 0; m < 2; ++m)
#pragma unroll
            for (int tile = 0; tile < kTiles; ++tile)
              mma(s[m][tile], key[m], queries[tile][k][half],
                  queries[tile][k][half + 1]);
      }
#pragma unroll
      for (int part = 4 * k / kSteps; part < 4 * (k + 1) / kSteps; ++part)
        between(part);
    }
    float *to = scores(lane() % 4 * 2) + part() * kPart + first + lane() / 4;
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          to[(8 * tile + i % 2) * kScores + 16 * m + i / 2 * 8] = s[m][tile][i];
  }

  /// A lane has positions 2 lane and 2 lane + 1 of a row.
  static constexpr int kPer = 2;
  LATHE_DEVICE_MEMBER void loadScores(int row, float (&x)[kPer]) const {
    const float *from = scores(row) + 2 * lane();
    Float2 sum = *(const Float2 *)from;
#pragma unroll
    for (int part = 1; part < kParts; ++part) {
      Float2 other = *(const Float2 *)(from + part * kPart);
      sum = {add(sum.x, other.x), add(sum.y, other.y)};
    }
    x[0] = sum.x, x[1] = sum.y;
  }
  /// In place of the first part of the row: 64 upper, then 64 lower parts.
  LATHE_DEVICE_MEMBER void storeWeights(int row, const float (&x)[kPer]) const {
    u32 *to = (u32 *)scores(row) + lane();
    const u32 upper = packHalf(x[0], x[1]);
    to[0] = upper;
    to[32] =
        packHalf(add(x[0], -lowerHalf(upper)), add(x[1], -upperHalf(upper)));
  }

  /// Values, weighted, of one leaf, folded into the sums. Warps that have no
  /// columns do it with whatever follows the row, and do not store it.
  template <class Between>
  LATHE_DEVICE_MEMBER void addValues(int stage, const Fold *scales,
                                     Between between) {
    const int matrix = lane() / 8;
    // Transposed, so that columns are rows of the operand.
    const char *values = shared + kShape.valuesAt(stage);
    const int at =
        pieceAt<kRowBytes>(matrix / 2 * 8 + lane() % 8, 2 * warp + matrix % 2);
    const u16 *weights =
        (const u16 *)scores(lane() % 8) + matrix / 2 * 64 + matrix % 2 * 8;
    float d[kTiles][kPairs][4] = {};
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      u32 value[kPairs][4];
#pragma unroll
      for (int p = 0; p < kPairs; ++p)
        ldmatrixTransposed(value[p], values + step * 16 * kRowBytes +
                                         pieceAfter(at, 16 * p));
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        u32 weight[4];
        ldmatrix(weight, weights + 8 * tile * kScores * 2 + 16 * step);
#pragma unroll
        for (int half = 0; half < 4; half += 2)
#pragma unroll
          for (int p = 0; p < kPairs; ++p)
            mma(d[tile][p], value[p], weight[half], weight[half + 1]);
      }
      between(step);
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const Fold *f = scales + 8 * tile + lane() % 4 * 2;
#pragma unroll
      for (int p = 0; p < kPairs; ++p)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          sums.at[tile][p][i] =
              folded(sums.at[tile][p][i], d[tile][p][i], f[i % 2]);
    }
  }

  LATHE_DEVICE_MEMBER void clear() { sums.clear(); }
  /// Calls store(row, column, sum) for all that this thread has; rows and
  /// columns may be beyond the last.
  template <class F> LATHE_DEVICE_MEMBER void visit(F store) const {
    sums.each([&](int tile, int p, int i) {
      store(8 * tile + lane() % 4 * 2 + i % 2,
            (warp + 8 * p) * 16 + lane() / 4 + i / 2 * 8, sums.at[tile][p][i]);
    });
  }

private:
  LATHE_DEVICE_MEMBER int part() const { return warp & (kParts - 1); }
  LATHE_DEVICE_MEMBER int stepOf(int k) const { return part() * kSteps + k; }
  LATHE_DEVICE_MEMBER bool hasStep(int k) const {
    return kParts * kSteps == kD / 16 || stepOf(k) < kD / 16;
  }
  /// The first part of a row's scores.
  LATHE_DEVICE_MEMBER float *scores(int row) const {
    return (float *)(shared + kShape.scoresAt()) + row * kScores;
  }
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_HALF_CUH
