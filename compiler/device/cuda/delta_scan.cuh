//===- delta_scan.cuh - the state through a prompt's chunks ---*- CUDA -*-===//
//
// The second stage of delta_prefill.cuh. All is transposed: the rows of X^T,
// O^T and S^T are 16 value columns. Then the accumulators of one product have
// the layout of the A operand of the next, so a warp keeps S^T in registers
// throughout and X^T and O^T for their chunk, and B is always a plain or
// transposed read of k, q, M or P in shared memory. The copy engine brings
// these, the next chunk's while this one is worked on.
//
// S^T of more than 128 keys is too much for a warp: then two have every other
// tile of 16 keys and add up their parts of S^T k and S^T q (kParts).
//
// V and S of a warp are scaled by one power of two for the whole launch, such
// that the largest |v| or |S| at the start, m, becomes 16 to 32. With beta and
// |k| up to 1 a step replaces one component of a column of S by one no larger
// than before or than |v|, so over T tokens |S| <= m (16 + sqrt T) and |X| is
// at most m more: far from an f16's end for any prompt, and near enough to its
// start for small values to keep their lower half.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_DELTA_SCAN_CUH
#define LATHE_COMPILER_DEVICE_CUDA_DELTA_SCAN_CUH

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

/// What a warp works on: 16 columns of a head, all its keys or one part.
struct DeltaWarp {
  int head, column, part;
};
template <class D> LATHE_DEVICE DeltaWarp deltaWarp() {
  return {blockX() / D::kSlices,
          blockX() % D::kSlices * D::kColumns + warp() / D::kParts * 16,
          warp() % D::kParts};
}
/// The first key of a warp's tile, or none.
template <class D> LATHE_DEVICE int tileKey(int part, int i) {
  return (i * D::kParts + part) * 16;
}
template <class D> LATHE_DEVICE bool tileExists(int part, int i) {
  return D::kK / 16 % D::kParts == 0 || tileKey<D>(part, i) < D::kK;
}

/// Keeps loads from moving across: the compiler likes to start so many that
/// registers spill.
LATHE_DEVICE void limitAhead() { syncWarp(); }

//===----------------------------------------------------------------------===//
// The state and its scale
//===----------------------------------------------------------------------===//

/// Calls visit(x, where it is in the plain state) for all of this lane's S^T.
template <class D, class Visit>
LATHE_DEVICE void visitState(float *state, DeltaState<D> &s, Visit visit) {
  DeltaWarp w = deltaWarp<D>();
  float *first = state + (i64)(w.head * D::kK + lane() % 4 * 2) * D::kV +
                 w.column + lane() / 4 + tileKey<D>(w.part, 0) * D::kV;
#pragma unroll
  for (int i = 0; i < D::kKeyTiles; ++i)
    if (tileExists<D>(w.part, i))
#pragma unroll
      for (int x = 0; x < 8; ++x) {
        int key = tileKey<D>(0, i) + x / 4 * 8 + (x & 1);
        visit(s.tile[i][x / 4][x % 4], first[key * D::kV + (x >> 1 & 1) * 8]);
      }
}

/// The power of two that brings `peak` to 16 to 32.
LATHE_DEVICE float scaleFor(float peak) {
  // 2^(e - 127) <= peak < 2^(e - 126)
  u32 e = floatBits(peak) >> 23;
  return bitsFloat((258 - (e < 32 ? 32 : e)) << 23);
}
LATHE_DEVICE float inverseOfPower(float power) {
  return bitsFloat((254u << 23) - floatBits(power));
}

/// The largest |v| of this warp's columns, in some lane or other.
template <class Cfg> LATHE_DEVICE float largestValue(const LatheLaunch &ctx) {
  DeltaWarp w = deltaWarp<DeltaScanDims<Cfg>>();
  int chunks = deltaChunks(ctx.step->tokens);
  float peak = 0.0f;
#pragma unroll 1
  for (int i = 0; i < chunks; i += 32) {
    int chunk = i + lane() < chunks ? i + lane() : chunks - 1;
    const float *peaks = deltaChunk<Cfg>(ctx, chunk).peaks(w.head, w.column);
    peak = maximum(peak, maximum(peaks[0], peaks[1]));
  }
  return peak;
}

/// Loads S^T, scaled; returns the scale. The parts of a column may differ in
/// their state, so all keys count.
template <class Cfg>
LATHE_DEVICE float loadState(const LatheLaunch &ctx, float *state,
                             float *exchange,
                             DeltaState<DeltaScanDims<Cfg>> &s) {
  using D = DeltaScanDims<Cfg>;
  s = {};
  visitState<D>(state, s, [&](float &x, float &plain) { x = plain; });
  float peak = largestValue<Cfg>(ctx);
  visitState<D>(state, s, [&](float &x, float &) {
    peak = maximum(peak, maximum(x, -x));
  });
  peak = warpMax(peak);
  if constexpr (D::kParts > 1) {
    exchange[warp()] = peak;
    syncThreads();
    peak = maximum(peak, exchange[warp() ^ 1]);
    syncThreads();
  }
  float scale = scaleFor(peak);
  visitState<D>(state, s, [&](float &x, float &) { x *= scale; });
  return scale;
}

//===----------------------------------------------------------------------===//
// One chunk
//===----------------------------------------------------------------------===//

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

/// Adds the other part's x and o to this one's.
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

//===----------------------------------------------------------------------===//
// The stage
//===----------------------------------------------------------------------===//

/// Starts the copy of a chunk; one thread does it.
template <class Cfg>
LATHE_DEVICE void copyChunk(const LatheLaunch &ctx, int i, char *shared,
                            Barrier *full) {
  using D = DeltaScanDims<Cfg>;
  if (threadX() != 0)
    return;
  DeltaChunk<Cfg> chunk = deltaChunk<Cfg>(ctx, i);
  int head = blockX() / D::kSlices;
  char *stage = shared + i % D::kStages * D::kStageBytes;
  full += i % D::kStages;
  barrierExpect(full, D::kStageBytes);
  copyBulk(stage, chunk.keys(head / D::kRatio), D::kKeyBytes, full);
  copyBulk(stage + D::kKeyBytes, chunk.matrices(head), kDeltaHeadBytes, full);
}

/// Keeps the launch's last inputs in the ring; each block some of them.
template <class Cfg>
LATHE_DEVICE void keepInputs(const DeltaArgs &args, const LatheStep *step) {
  using D = DeltaScanDims<Cfg>;
  int tokens = step->tokens, position = step->position;
  int rows = tokens < D::kTaps - 1 ? tokens : D::kTaps - 1;
#pragma unroll 1
  for (int i = blockX() * threadCount() + threadX(); i < rows * D::kChannels;
       i += gridX() * threadCount()) {
    int t = tokens - 1 - i / D::kChannels, channel = i % D::kChannels;
    ringRow<Cfg>(args, position + t)[channel] =
        args.qkv[(i64)t * D::kInStride + channel];
  }
}

/// Launch deltaScanBlocks(shape) blocks of deltaScanThreads(shape) threads with
/// deltaScanShared(shape) bytes after deltaPrepare, with its scratch.
template <class Cfg>
LATHE_DEVICE void
deltaScan(const LatheLaunch &ctx, const float *qkv, const float *a,
          const float *b, const float *convWeight, const float *aLog,
          const float *dtBias, float *convState, float *state, float *out) {
  using D = DeltaScanDims<Cfg>;
  DeltaArgs args{qkv, a, b, convWeight, aLog, dtBias, convState, state, out};
  char *shared = sharedMemory();
  float *exchange = (float *)(shared + D::kStages * D::kStageBytes);
  Barrier *full = (Barrier *)(shared + D::kStages * D::kStageBytes +
                              deltaExchangeBytes(D::shape()));
  if (threadX() == 0) {
    for (int i = 0; i < D::kStages; ++i)
      barrierInit(full + i, 1);
    barrierInitFence();
  }
  syncThreads();
  waitForPrevious();
  launchNext();

  const int tokens = ctx.step->tokens, chunks = deltaChunks(tokens);
  for (int i = 0; i < D::kStages && i < chunks; ++i)
    copyChunk<Cfg>(ctx, i, shared, full);
  keepInputs<Cfg>(args, ctx.step);
  DeltaState<D> s;
  const float scale = loadState<Cfg>(ctx, state, exchange, s);
  const DeltaWarp w = deltaWarp<D>();
  const Float4 *values =
      deltaChunk<Cfg>(ctx, 0).values(w.head, w.column) + lane();
  out += w.head * D::kV + w.column;
#pragma unroll 1
  for (int i = 0; i < chunks; ++i) {
    Float4 v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j)
      v[j] = loadOnce((const float *)(values + j * 32));
    values += DeltaChunk<Cfg>::kAt.bytes / sizeof(Float4);
    barrierWait(full + i % D::kStages, i / D::kStages & 1);
    scanChunk<Cfg>({shared + i % D::kStages * D::kStageBytes}, v, scale,
                   tokens - i * kDeltaChunk, exchange, s, out);
    out += kDeltaChunk * D::kOutStride;
    syncThreads();
    if (i + D::kStages < chunks)
      copyChunk<Cfg>(ctx, i + D::kStages, shared, full);
  }
  const float unscale = inverseOfPower(scale);
  visitState<D>(state, s, [&](float &x, float &plain) { plain = x * unscale; });
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_DELTA_SCAN_CUH
