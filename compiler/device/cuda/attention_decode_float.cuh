//===- attention_decode_float.cuh - those with a float cache ---*- CUDA -*-===//
//
// The products of attention_decode.cuh where K and V are float, in tf32, every
// operand as the sum of an upper and a lower part. Eight query rows make one
// operand of 16: upper parts in rows 0-7, lower parts in rows 8-15. One mma
// multiplies both, and a lane finds the two halves of each sum in its own
// registers, d[i] and d[i + 2].
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_FLOAT_CUH
#define LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_FLOAT_CUH

#include "compiler/device/cuda/attention_decode_rows.cuh"

namespace lathe {

template <class Cfg> class DecodeFloat {
  using A = AttentionDims<Cfg>;
  using T = Tensor<float>;
  static constexpr AttentionDecodeShape kShape = DecodePlan<Cfg>::kShape;
  static constexpr int kD = A::kD, kRowBytes = A::kRowBytes;
  static constexpr int kTiles = kShape.tiles(), kScores = kShape.scoreStride();
  static constexpr int kSteps = kShape.leaf() / T::kDepth;
  /// 16 columns of the result: each warp has every eighth.
  static constexpr int kPairs = ceilDiv(kD / 16, 8);
  static_assert(kShape.leaf() == 32 && kShape.threads() == 256);

  char *const shared;
  const int warp;
  DecodeSums<kTiles, kPairs> sums; ///< of row 8 tile + lane / 4

public:
  LATHE_DEVICE_MEMBER explicit DecodeFloat(const DecodeTeam &team)
      : shared(team.shared), warp(team.warp) {}

  /// Operands: [tile][chunk][lane] four floats.
  LATHE_DEVICE_MEMBER void storeQuery(int tile, int i, float x) const {
    queries(tile)[i / 16 * 128 + warp * 16 + i % 16] = x;
  }
  LATHE_DEVICE_MEMBER void takeQueries() const {}

  /// Scores of all rows: a warp has eight positions and every second tile. Two
  /// chains of sums, or each mma waits for the last.
  /// between(part) is called for four parts of the work.
  template <class Between>
  LATHE_DEVICE_MEMBER void score(int stage, Between between) const {
#pragma unroll
    for (int part = 0; part < 4; ++part)
      between(part);
    constexpr int kMine = ceilDiv(kTiles, 2);
    const int column = warp % 4 * 8, team = warp / 4;
    const int at = chunksAt<kRowBytes>(lane() / 4);
    const char *keys = shared + kShape.keysAt(stage) + column * kRowBytes;
    float s[kMine][2][4] = {};
#pragma unroll 2
    for (int c = 0; c < A::kChunks; ++c) {
      Vec4 key = chunkOf(keys, at, c);
#pragma unroll
      for (int m = 0; m < kMine; ++m) {
        // The last tile may be one that another team has, too.
        int tile = 2 * m + team < kTiles ? 2 * m + team : kTiles - 1;
        Vec4 x = ((const Vec4 *)queries(tile))[c * 32 + lane()];
        multiply(s[m][0], split(x.x, x.y), key.x, key.y);
        multiply(s[m][1], split(x.z, x.w), key.z, key.w);
      }
    }
#pragma unroll
    for (int m = 0; m < kMine; ++m) {
      int tile = 2 * m + team;
      float *to = scores(8 * tile + lane() / 4) + column + lane() % 4 * 2;
      if (tile < kTiles)
        *(Float2 *)to = {
            add(add(s[m][0][0], s[m][1][0]), add(s[m][0][2], s[m][1][2])),
            add(add(s[m][0][1], s[m][1][1]), add(s[m][0][3], s[m][1][3]))};
    }
  }

  /// A lane has a position of a row; weights take the place of scores.
  static constexpr int kPer = 1;
  LATHE_DEVICE_MEMBER void loadScores(int row, float (&x)[kPer]) const {
    x[0] = scores(row)[lane()];
  }
  LATHE_DEVICE_MEMBER void storeWeights(int row, const float (&x)[kPer]) const {
    scores(row)[lane()] = x[0];
  }

  /// Values, weighted, of one leaf, folded into the sums. Warps that have no
  /// columns do it with whatever follows the row, and do not store it.
  template <class Between>
  LATHE_DEVICE_MEMBER void addValues(int stage, const Fold *scales,
                                     Between between) {
#pragma unroll
    for (int part = 0; part < 4; ++part)
      between(part);
    const char *values = shared + kShape.valuesAt(stage);
    const int at = T::valuesAt<kRowBytes>(warp);
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      // Or the compiler holds the weights of all steps in registers.
      syncWarp();
      float d[kTiles][2][4] = {};
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        u32 value[4];
        T::values<kRowBytes>(value, values, at, step, 8 * p);
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          Float2 w = *(const Float2 *)(scores(8 * tile + lane() / 4) +
                                       8 * step + lane() % 4 * 2);
          const Operand weight = split(floatBits(w.x), floatBits(w.y));
          multiply(d[tile][0], weight, value[0], value[1]);
          multiply(d[tile][1], weight, value[2], value[3]);
        }
      }
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        Fold f = scales[8 * tile + lane() / 4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float (&sum)[4] = d[tile][i / 2];
          sums.at[tile][p][i] =
              folded(sums.at[tile][p][i], add(sum[i % 2], sum[i % 2 + 2]), f);
        }
      }
    }
  }

  LATHE_DEVICE_MEMBER void clear() { sums.clear(); }
  /// Calls store(row, column, sum) for all that this thread has; rows and
  /// columns may be beyond the last.
  template <class F> LATHE_DEVICE_MEMBER void visit(F store) const {
    sums.each([&](int tile, int p, int i) {
      store(8 * tile + lane() / 4,
            (warp + 8 * p) * 16 + i / 2 * 8 + lane() % 4 * 2 + i % 2,
            sums.at[tile][p][i]);
    });
  }

private:
  struct Operand {
    u32 a[4];
  };
  static LATHE_DEVICE_MEMBER Operand split(u32 x, u32 y) {
    return {{T::upper(x), T::lower(x), T::upper(y), T::lower(y)}};
  }
  static LATHE_DEVICE_MEMBER void multiply(float (&d)[4], const Operand &x,
                                           u32 b0, u32 b1) {
    mmaTf32(d, x.a, T::upper(b0), T::upper(b1));
    mmaTf32(d, x.a, T::lower(b0), T::lower(b1));
  }
  LATHE_DEVICE_MEMBER float *queries(int tile) const {
    return (float *)(shared + kShape.queriesAt() + tile * kShape.queryBytes());
  }
  LATHE_DEVICE_MEMBER float *scores(int row) const {
    return (float *)(shared + kShape.scoresAt()) + row * kScores;
  }
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_FLOAT_CUH
