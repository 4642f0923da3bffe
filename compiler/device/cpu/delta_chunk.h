//===- delta_chunk.h - Gated DeltaNet for a prompt --------------*- C++ -*-===//
//
// The recurrence of delta.h in its chunked form (arXiv 2412.06464, section
// 3.3): within a chunk of n tokens the state enters only at the chunk's start
// and leaves at its end, and everything between is products of small matrices.
// With rows q, k, v, G_i the running sum of g inside the chunk, S0 and S1 the
// state before and after:
//
//   L_ij = beta_i (k_i . k_j) e^{G_i - G_j}                  j < i
//   X = (I + L)^{-1} diag(beta) (V - diag(e^G) K S0)
//   O = diag(e^G) Q S0 + [(q_i . k_j) e^{G_i - G_j}, j <= i] X
//   S1 = e^{G_n} S0 + K^T diag(e^{G_n - G_i}) X
//
// X is the textbook U - W S0 with the two solves made one: chunks of a head
// run in order here, so S0 is at hand and W is never needed. The exponents are
// differences G_i - G_j <= 0; e^{-G} alone would overflow.
//
// Value columns are independent given L and the weights of O, so a panel of
// columns runs through all three lines while its part of S stays in L1. The
// state is held in panels across the chunks of a head. Rows beyond the last
// token are zero: they add nothing. Tokens that are pending (see delta.h) are
// folded in first; those of a prompt never are.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_DELTA_CHUNK_H
#define LATHE_COMPILER_DEVICE_CPU_DELTA_CHUNK_H

#include "compiler/device/cpu/delta_step.h"
#include "compiler/device/cpu/tile.h"

namespace lathe {

/// This thread's arrays; see DeltaChunkScratch for their shapes.
struct DeltaChunk {
  float *q, *k, *kTransposed, *kk, *qk, *lower, *weights, *v, *solved;
  float *beta, *fromStart, *toEnd; ///< beta, e^G, e^{G_n - G}
  float *sums, *residues;          ///< G = sums + residues
  float *state;
  int first, count; ///< the chunk's tokens
};

template <class Cfg> static DeltaChunk chunkScratch(const LatheContext *ctx) {
  constexpr DeltaChunkScratch kAt =
      deltaChunkScratch(DeltaDims<Cfg>::shape(Cfg::kChunk));
  char *p = (char *)ctx->local;
  auto at = [&](i64 offset) { return (float *)(p + offset); };
  float *gates = at(kAt.gates);
  return {at(kAt.q),
          at(kAt.k),
          at(kAt.kTransposed),
          at(kAt.kk),
          at(kAt.qk),
          at(kAt.lower),
          at(kAt.weights),
          at(kAt.v),
          at(kAt.solved),
          gates,
          gates + Cfg::kChunk,
          gates + 2 * Cfg::kChunk,
          gates + 3 * Cfg::kChunk,
          gates + 4 * Cfg::kChunk,
          at(kAt.state),
          0,
          0};
}

/// Copies a head's state into panels, or with `back` out of them.
template <class Cfg>
static void movePanels(float *state, float *panels, bool back) {
  constexpr int kK = Cfg::kKeyDim, kV = Cfg::kValueDim;
  constexpr int kPanel = 16 * panelVectors(kV);
  for (int c = 0; c < kV; c += 16) {
    float *panel = panels + c / kPanel * kPanel * kK + c % kPanel;
    for (int i = 0; i < kK; ++i) {
      float *plain = state + i * kV + c, *packed = panel + i * kPanel;
      back ? store(plain, load(packed)) : store(packed, load(plain));
    }
  }
}

static inline void clearRows(float *rows, int width, int begin, int end) {
  for (i64 i = (i64)begin * width; i < (i64)end * width; i += 16)
    store(rows + i, splat(0.0f));
}

/// dots[i][j] = rows_i . k_j for the vectors that hold some j <= i: narrow
/// tiles, to follow the diagonal.
template <class Cfg>
static void dotTiles(const DeltaChunk &s, const float *rows, float *dots) {
  constexpr int kK = Cfg::kKeyDim, kN = Cfg::kChunk;
  for (int i = 0; i < s.count; i += kTileRows)
    for (int j = 0; j < i + kTileRows; j += 16) {
      Tile<kTileRows, 1> acc = {};
      multiply(acc, rows + i * kK, kK, 1, s.kTransposed + j, kN, kK);
      for (int r = 0; r < kTileRows; ++r)
        store(dots + (i + r) * kN + j, acc.v[r][0]);
    }
}

/// q, k and their dot products for the chunk: shared by the value heads.
template <class Cfg>
static void loadChunk(const DeltaArgs &args, int keyHead, DeltaChunk &s) {
  constexpr int kK = Cfg::kKeyDim, kN = Cfg::kChunk;
  loadQueries<Cfg>(args, keyHead, s.first, s.count, s.q);
  loadKeys<Cfg>(args, keyHead, s.first, s.count, s.k);
  int padded = roundUp(s.count, kTileRows);
  clearRows(s.q, kK, s.count, padded);
  clearRows(s.k, kK, s.count, padded);
  packTransposed(s.k, kK, s.count, kK, s.kTransposed, kN);
  dotTiles<Cfg>(s, s.k, s.kk);
  dotTiles<Cfg>(s, s.q, s.qk);
}

/// e^{G - G_j} of 16 tokens j, where G = sum + residue. G can be large and the
/// difference small, hence the two parts.
LATHE_INLINE f32x16 decayFrom(const DeltaChunk &s, int j, float sum,
                              float residue) {
  f32x16 gap = (sum - load(s.sums + j)) + (residue - load(s.residues + j));
  return exp(__builtin_elementwise_min(gap, splat(0.0f)));
}

/// Gates and v of one value head; missing rows get beta 0 and no decay.
template <class Cfg>
static void loadValueHead(const DeltaArgs &args, int head, DeltaChunk &s) {
  using D = DeltaDims<Cfg>;
  convolve<Cfg>(args, D::value(head), D::kV, s.first, s.count, s.v);
  clearRows(s.v, D::kV, s.count, roundUp(s.count, kTileRows));
  double total = 0.0;
  for (int i = 0; i < Cfg::kChunk; ++i) {
    s.beta[i] = 0.0f;
    if (i < s.count) {
      DeltaGates gates = deltaGates<Cfg>(args, head, s.first + i);
      s.beta[i] = gates.beta;
      total += gates.g;
    }
    s.sums[i] = (float)total;
    s.residues[i] = (float)(total - (double)s.sums[i]);
  }
  constexpr int kLast = Cfg::kChunk - 1;
  for (int i = 0; i < Cfg::kChunk; i += 16) {
    store(s.fromStart + i, exp(load(s.sums + i)));
    store(s.toEnd + i, decayFrom(s, i, s.sums[kLast], s.residues[kLast]));
  }
}

/// -L and the weights of O, from the dot products and the gates.
template <class Cfg> static void decayDots(const DeltaChunk &s) {
  constexpr int kN = Cfg::kChunk;
  const i32x16 lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const f32x16 zero = splat(0.0f);
  int padded = roundUp(s.count, kTileRows);
  for (int i = 0; i < padded; ++i)
    // The readers take whole tiles, up to the end of this row's tile.
    for (int j = 0; j < i / kTileRows * kTileRows + kTileRows; j += 16) {
      f32x16 decay = decayFrom(s, j, s.sums[i], s.residues[i]);
      i32x16 column = lanes + j;
      f32x16 lower = -s.beta[i] * load(s.kk + i * kN + j) * decay;
      f32x16 weight = load(s.qk + i * kN + j) * decay;
      store(s.lower + i * kN + j, column < i ? lower : zero);
      store(s.weights + i * kN + j, column <= i ? weight : zero);
    }
}

/// X for one row tile: acc is K S0 on entry, the solved rows on exit.
template <class Cfg, int kVectors>
LATHE_INLINE void solveTile(const DeltaChunk &s, int i, const float *v,
                            Tile<kTileRows, kVectors> &acc) {
  constexpr int kN = Cfg::kChunk, kPanel = 16 * kVectors;
#pragma unroll
  for (int r = 0; r < kTileRows; ++r)
#pragma unroll
    for (int x = 0; x < kVectors; ++x)
      acc.v[r][x] =
          s.beta[i + r] * fma(splat(-s.fromStart[i + r]), acc.v[r][x],
                              load(v + (i + r) * Cfg::kValueDim + 16 * x));
  multiply(acc, s.lower + i * kN, kN, 1, s.solved, kPanel, i);
#pragma unroll
  for (int r = 1; r < kTileRows; ++r)
#pragma unroll
    for (int c = 0; c < r; ++c)
#pragma unroll
      for (int x = 0; x < kVectors; ++x)
        acc.v[r][x] =
            fma(splat(s.lower[(i + r) * kN + i + c]), acc.v[c][x], acc.v[r][x]);
#pragma unroll
  for (int r = 0; r < kTileRows; ++r)
#pragma unroll
    for (int x = 0; x < kVectors; ++x)
      store(s.solved + (i + r) * kPanel + 16 * x, acc.v[r][x]);
}

/// O for one row tile: acc is Q S0 on entry.
template <class Cfg, int kVectors>
LATHE_INLINE void outputTile(const DeltaChunk &s, int i, float *out,
                             Tile<kTileRows, kVectors> &acc) {
  constexpr int kN = Cfg::kChunk, kPanel = 16 * kVectors;
#pragma unroll
  for (int r = 0; r < kTileRows; ++r)
#pragma unroll
    for (int x = 0; x < kVectors; ++x)
      acc.v[r][x] *= s.fromStart[i + r];
  multiply(acc, s.weights + i * kN, kN, 1, s.solved, kPanel, i + kTileRows);
#pragma unroll
  for (int r = 0; r < kTileRows; ++r)
    if (i + r < s.count)
#pragma unroll
      for (int x = 0; x < kVectors; ++x)
        store(out + (i64)(s.first + i + r) * DeltaDims<Cfg>::kOutStride +
                  16 * x,
              acc.v[r][x]);
}

/// The chunk for one panel of value columns: solve, read out, update.
template <class Cfg, int kVectors>
static void chunkPanel(const DeltaChunk &s, const float *v, float *state,
                       float *out) {
  constexpr int kK = Cfg::kKeyDim, kPanel = 16 * kVectors;
  int padded = roundUp(s.count, kTileRows);
  for (int i = 0; i < padded; i += kTileRows) {
    Tile<kTileRows, kVectors> acc = {};
    multiply(acc, s.k + i * kK, kK, 1, state, kPanel, kK);
    solveTile<Cfg>(s, i, v, acc);
  }
  for (int i = 0; i < padded; i += kTileRows) {
    Tile<kTileRows, kVectors> acc = {};
    multiply(acc, s.q + i * kK, kK, 1, state, kPanel, kK);
    outputTile<Cfg>(s, i, out, acc);
  }
  for (int i = 0; i < padded; ++i)
    for (int x = 0; x < kPanel; x += 16) {
      float *p = s.solved + i * kPanel + x;
      store(p, load(p) * s.toEnd[i]);
    }
  float decay = s.fromStart[Cfg::kChunk - 1];
  for (int i = 0; i < kK; i += kTileRows) {
    Tile<kTileRows, kVectors> acc;
    for (int r = 0; r < kTileRows; ++r)
      for (int x = 0; x < kVectors; ++x)
        acc.v[r][x] = decay * load(state + (i + r) * kPanel + 16 * x);
    multiply(acc, s.k + i, 1, kK, s.solved, kPanel, padded);
    for (int r = 0; r < kTileRows; ++r)
      for (int x = 0; x < kVectors; ++x)
        store(state + (i + r) * kPanel + 16 * x, acc.v[r][x]);
  }
}

/// All chunks of value heads [begin, end), which share one key head.
template <class Cfg>
static void chunkHeads(const DeltaArgs &args, int begin, int end, int tokens,
                       DeltaChunk &s) {
  using D = DeltaDims<Cfg>;
  constexpr int kStateSize = D::kK * D::kV;
  constexpr int kVectors = panelVectors(D::kV), kPanel = 16 * kVectors;
  for (int h = begin; h < end; ++h)
    movePanels<Cfg>(args.state + (i64)h * kStateSize,
                    s.state + (h - begin) * kStateSize, false);
  for (s.first = 0; s.first < tokens; s.first += Cfg::kChunk) {
    int left = tokens - s.first;
    s.count = left < Cfg::kChunk ? left : Cfg::kChunk;
    loadChunk<Cfg>(args, begin / D::kRatio, s);
    for (int h = begin; h < end; ++h) {
      loadValueHead<Cfg>(args, h, s);
      decayDots<Cfg>(s);
      for (int c = 0; c < D::kV; c += kPanel)
        chunkPanel<Cfg, kVectors>(
            s, s.v + c, s.state + (h - begin) * kStateSize + c * D::kK,
            args.out + h * D::kV + c);
    }
  }
  for (int h = begin; h < end; ++h)
    movePanels<Cfg>(args.state + (i64)h * kStateSize,
                    s.state + (h - begin) * kStateSize, true);
}

/// Conv, norms, gates and the delta rule for ctx->tokens >= 1 tokens.
/// Needs deltaChunkScratch(shape).bytes in ctx->local; kChunk is a multiple
/// of 16.
template <class Cfg>
static void deltaChunk(const LatheContext *ctx, const float *qkv,
                       const float *a, const float *b, const float *convWeight,
                       const float *aLog, const float *dtBias, float *convState,
                       float *state, float *out) {
  using D = DeltaDims<Cfg>;
  static_assert(Cfg::kChunk % 16 == 0);
  DeltaArgs args{qkv,    a,         b,     convWeight, aLog,
                 dtBias, convState, state, out,        ctx->position};
  if constexpr (Cfg::kReplay)
    stepHeads<Cfg, 0>(ctx, args, 0);
  DeltaChunk s = chunkScratch<Cfg>(ctx);
  Range heads = shareOf(ctx, Cfg::kValueHeads);
  for (int h = heads.begin; h < heads.end;) {
    int end = (h / D::kRatio + 1) * D::kRatio;
    end = end < heads.end ? end : heads.end;
    chunkHeads<Cfg>(args, h, end, ctx->tokens, s);
    h = end;
  }
  const bool few = Cfg::kReplay && ctx->tokens < Cfg::kTaps - 1;
  advanceConvState<Cfg>(ctx, args, few ? ctx->tokens : Cfg::kTaps - 1, true);
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_DELTA_CHUNK_H
