//===- delta_scan_chunk.cuh - one chunk of a prompt ------------*- CUDA -*-===//
//
// A warp's work on one chunk in delta_scan.cuh: its state S^T [16
// columns][keys] in registers, the chunk in shared memory.
//
// All is transposed: the rows of X^T, O^T and S^T are 16 value columns. Then
// the accumulators of one product have the layout of the A operand of the next,
// and B is always a plain or transposed read of k, q, M or P.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_DELTA_SCAN_CHUNK_CUH
#define LATHE_COMPILER_DEVICE_CUDA_DELTA_SCAN_CHUNK_CUH

#include "compiler/device/cuda/delta_chunk.cuh"

namespace lathe {

template <class Cfg> struct DeltaScanDims : DeltaDims<Cfg> {
  using D = DeltaDims<Cfg>;
  static constexpr int kParts = deltaScanParts(D::shape());
  static constexpr int kColumns = deltaScanColumns(D::shape());
  static constexpr int kSlices = D::kV / kColumns;
  static constexpr int kStages = deltaScanStages(D::shape());
  static constexpr int kStageBytes = deltaStageBytes(D::shape());
  static constexpr int kKeyBytes = deltaKeyBytes(D::shape());
  static constexpr int kKeyRow = deltaRowBytes(D::kK);
  static constexpr int kRow = deltaRowBytes(kDeltaChunk);
  static constexpr int kKeyTiles = ceilDiv(D::kK / 16, kParts); ///< of a warp
};

/// A warp's S^T: two accumulators, of 8 keys each, per tile.
template <class D> struct DeltaState {
  float tile[D::kKeyTiles][2][4];
};
/// X^T or O^T: four accumulators, of 8 tokens each.
struct DeltaRows {
  float tile[4][4];
};

/// A chunk in shared memory.
template <class D> struct DeltaStage {
  const char *keys;

  LATHE_DEVICE_MEMBER const char *queries() const {
    return keys + kDeltaChunk * D::kKeyRow;
  }
  LATHE_DEVICE_MEMBER const char *solve() const { return keys + D::kKeyBytes; }
  LATHE_DEVICE_MEMBER const char *weights() const {
    return solve() + kDeltaMatrixBytes;
  }
  LATHE_DEVICE_MEMBER const float *fromStart() const {
    return (const float *)(solve() + 2 * kDeltaMatrixBytes);
  }
  LATHE_DEVICE_MEMBER const float *toEnd() const {
    return fromStart() + kDeltaChunk;
  }
};

/// The first key of a warp's tile `i`; the last tile may not exist.
template <class D> LATHE_DEVICE int tileKey(int part, int i) {
  return (i * D::kParts + part) * 16;
}
template <class D> LATHE_DEVICE bool tileExists(int part, int i) {
  return D::kK / 16 % D::kParts == 0 || tileKey<D>(part, i) < D::kK;
}

/// Keeps loads from moving across: the compiler likes to start so many that
/// registers spill.
LATHE_DEVICE void limitAhead() { syncWarp(); }

/// The power of two that brings `peak` to 16 to 32.
LATHE_DEVICE float scaleFor(float peak) {
  // 2^(e - 127) <= peak < 2^(e - 126)
  u32 e = floatBits(peak) >> 23;
  return bitsFloat((258 - (e < 32 ? 32 : e)) << 23);
}
LATHE_DEVICE float inverseOfPower(float power) {
  return bitsFloat((254u << 23) - floatBits(power));
}

/// x = S0^T K^T and o = S0^T Q^T.
template <class D>
LATHE_DEVICE void readState(const DeltaStage<D> &stage, int part,
                            const DeltaState<D> &s, DeltaRows &x,
                            DeltaRows &o) {
#pragma unroll
  for (int i = 0; i < D::kKeyTiles; ++i)
    if (tileExists<D>(part, i)) {
      limitAhead();
      SplitTile a;
      splitTile(s.tile[i][0], s.tile[i][1], a);
      const int at = tileKey<D>(part, i) * 2;
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        int row = t * 8 * D::kKeyRow;
        multiplySplit<D::kK>(x.tile[t], a, stage.keys + at + row);
        multiplySplit<D::kK>(o.tile[t], a, stage.queries() + at + row);
      }
    }
}

/// Adds the other part's x and o to this one's: 32 numbers of every lane.
template <class D>
LATHE_DEVICE void addParts(float *exchange, DeltaRows &x, DeltaRows &o) {
  float *mine = exchange + warp() * 1024 + lane();
  float *theirs = exchange + (warp() ^ 1) * 1024 + lane();
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    mine[i * 32] = x.tile[i / 4][i % 4];
    mine[(i + 16) * 32] = o.tile[i / 4][i % 4];
  }
  syncThreads();
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    x.tile[i / 4][i % 4] += theirs[i * 32];
    o.tile[i / 4][i % 4] += theirs[(i + 16) * 32];
  }
}

/// Puts v - e^G S^T k in place of S^T k. v is in the order of values().
template <class D>
LATHE_DEVICE void subtractRead(const DeltaStage<D> &stage, const Float4 (&v)[4],
                               float scale, DeltaRows &x) {
#pragma unroll
  for (int t = 0; t < 4; ++t)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Float4 &from = v[(i >> 1) * 2 + t / 2];
      const float tokens[4] = {from.x, from.y, from.z, from.w};
      float decay = stage.fromStart()[t * 8 + lane() % 4 * 2 + (i & 1)];
      x.tile[t][i] = fma(decay * (-1.0f / kDeltaKeyScale), x.tile[t][i],
                         tokens[t % 2 * 2 + (i & 1)] * scale);
    }
}

/// Multiplies the columns of x, which are tokens.
LATHE_DEVICE void scaleTokens(const float *factors, DeltaRows &x) {
#pragma unroll
  for (int t = 0; t < 4; ++t)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      x.tile[t][i] *= factors[t * 8 + lane() % 4 * 2 + (i & 1)];
}

/// x as the A operand for a sum over tokens.
LATHE_DEVICE void splitTokens(const DeltaRows &x, SplitTile (&a)[2]) {
  splitTile(x.tile[0], x.tile[1], a[0]);
  splitTile(x.tile[2], x.tile[3], a[1]);
}

/// d += A B^T for a lower triangular B [tokens][tokens].
template <class D>
LATHE_DEVICE void multiplyLower(const SplitTile (&a)[2], const char *rows,
                                DeltaRows &d) {
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int t = 2 * i; t < 4; ++t)
      multiplySplit<kDeltaChunk>(d.tile[t], a[i],
                                 rows + t * 8 * D::kRow + i * 32);
}

/// Stores the tokens that exist; `out` points to the first one's columns.
template <class D>
LATHE_DEVICE void storeOutputs(float *out, int count, float scale,
                               const DeltaRows &o) {
  float *to = out + lane() / 4 + lane() % 4 * 2 * D::kOutStride;
#pragma unroll
  for (int t = 0; t < 4; ++t)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int token = t * 8 + (i & 1);
      if (token + lane() % 4 * 2 < count)
        to[token * D::kOutStride + (i >> 1) * 8] = o.tile[t][i] * scale;
    }
}

/// S^T <- e^{G_n} S^T + X^T diag(e^{G_n - G}) K. The sum is made apart from S,
/// since tensor cores round towards zero, again and again.
template <class D>
LATHE_DEVICE void updateState(const DeltaStage<D> &stage, int part,
                              const SplitTile (&x)[2], DeltaState<D> &s) {
  float decay = stage.fromStart()[kDeltaChunk - 1];
#pragma unroll
  for (int i = 0; i < D::kKeyTiles; ++i)
    if (tileExists<D>(part, i)) {
      limitAhead();
      const char *keys = stage.keys + tileKey<D>(part, i) * 2;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float d[4] = {};
        multiplySplitPlain<D::kK>(d, x[0], keys + j * 16);
        multiplySplitPlain<D::kK>(d, x[1], keys + j * 16 + 16 * D::kKeyRow);
#pragma unroll
        for (int y = 0; y < 4; ++y)
          s.tile[i][j][y] =
              fma(decay, s.tile[i][j][y], d[y] * (1.0f / kDeltaKeyScale));
      }
    }
}

/// One chunk of `count` tokens, or more, for one warp.
template <class Cfg>
LATHE_DEVICE void scanChunk(const DeltaStage<DeltaScanDims<Cfg>> &stage,
                            const Float4 (&v)[4], float scale, int count,
                            float *exchange, DeltaState<DeltaScanDims<Cfg>> &s,
                            float *out) {
  using D = DeltaScanDims<Cfg>;
  const int part = warp() % D::kParts;
  DeltaRows x = {}, o = {};
  readState<D>(stage, part, s, x, o);
  if constexpr (D::kParts > 1)
    addParts<D>(exchange, x, o);
  SplitTile a[2];
  subtractRead<D>(stage, v, scale, x);
  splitTokens(x, a);
  x = {};
  multiplyLower<D>(a, stage.solve(), x);
#pragma unroll
  for (int i = 0; i < 16; ++i)
    x.tile[i / 4][i % 4] *= 1.0f / kDeltaSolveScale;
  if (part == 0) {
    splitTokens(x, a);
    scaleTokens(stage.fromStart(), o);
    multiplyLower<D>(a, stage.weights(), o);
    storeOutputs<D>(out, count,
                    inverseOfPower(scale) * (Cfg::kQScale / kDeltaKeyScale), o);
  }
  scaleTokens(stage.toEnd(), x);
  splitTokens(x, a);
  updateState<D>(stage, part, a, s);
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_DELTA_SCAN_CHUNK_CUH
