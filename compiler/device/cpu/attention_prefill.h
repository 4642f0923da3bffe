//===- attention_prefill.h - attention for a prompt -------------*- C++ -*-===//
//
// Attention of attention.h for many tokens after those in the cache, causal.
// First the team appends K and V; after a barrier a work item is a tile of
// query tokens for all query heads of one kv head: it walks over blocks of
// positions with an online softmax, so no T x context matrix exists.
//
// Per block, K is packed transposed and V in panels of columns, once for the
// 128 or so query rows of the tile; both products then run on tile.h. Rows are
// [head][token], so that the rows of a register tile are neighbours in time
// and skip what lies after all of them. Rows beyond the last token are zero
// queries: finite, never stored.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_ATTENTION_PREFILL_H
#define LATHE_COMPILER_DEVICE_CPU_ATTENTION_PREFILL_H

#include "compiler/device/cpu/attention.h"

namespace lathe {

/// One tile of queries against one block of positions.
struct PrefillTile {
  float *q, *sums, *scores, *peak, *total, *scale;
  float *keys;   ///< [panels][D][panel]: K transposed
  float *values; ///< [panels][kScoreBlock][panel]
  float *cosines, *sines;
  int kvHead, firstToken, tokens;
  int position; ///< of the tile's first token
  int first;    ///< the block's first position
};

template <class Cfg> struct PrefillDims {
  using A = AttentionDims<Cfg>;
  static constexpr int kD = A::kD;
  static constexpr int kTokens = prefillTileTokens(A::shape());
  static constexpr int kRows = kTokens * A::kGroup;
  static constexpr int kKeyVectors = panelVectors(kScoreBlock);
  static constexpr int kKeyPanel = 16 * kKeyVectors;
  static constexpr int kValueVectors = panelVectors(kD);
  static constexpr int kValuePanel = 16 * kValueVectors;
  static_assert(kTokens % kTileRows == 0);
};

template <class Cfg>
static PrefillTile prefillScratch(const LatheContext *ctx) {
  constexpr auto kAt = attentionPrefillScratch(AttentionDims<Cfg>::shape());
  char *p = (char *)ctx->local;
  auto at = [&](i64 offset) { return (float *)(p + offset); };
  return {at(kAt.q),
          at(kAt.sums),
          at(kAt.scores),
          at(kAt.peak),
          at(kAt.total),
          at(kAt.scale),
          at(kAt.keys),
          at(kAt.values),
          at(kAt.cosines),
          at(kAt.sines),
          0,
          0,
          0,
          0,
          0};
}

/// Appends K and V of every token and kv head to the cache.
template <class Cfg>
static void appendCache(const LatheContext *ctx, const AttentionArgs<Cfg> &args,
                        PrefillTile &s) {
  constexpr int kD = Cfg::kHeadDim;
  Range tokens = shareOf(ctx, ctx->tokens);
  for (int t = tokens.begin; t < tokens.end; ++t) {
    angles<Cfg>(ctx->position + t, s.cosines, s.sines);
    for (int h = 0; h < Cfg::kKvHeads; ++h) {
      i64 row = ((i64)h * ctx->capacity + ctx->position + t) * kD;
      placeKeyValue<Cfg>(args, t, h, s.cosines, s.sines, args.kCache + row,
                         args.vCache + row);
    }
  }
}

/// Places the tile's queries and clears its sums.
template <class Cfg>
static void startTile(const AttentionArgs<Cfg> &args, PrefillTile &s) {
  using P = PrefillDims<Cfg>;
  constexpr int kD = P::kD, kGroup = P::A::kGroup;
  for (i64 i = 0; i < (i64)P::kRows * kD; i += 16)
    store(s.sums + i, splat(0.0f));
  for (int r = 0; r < P::kRows; ++r) {
    s.peak[r] = kMinusInfinity;
    s.total[r] = 0.0f;
  }
  for (int t = 0; t < P::kTokens; ++t) {
    if (t < s.tokens)
      angles<Cfg>(s.position + t, s.cosines, s.sines);
    for (int h = 0; h < kGroup; ++h) {
      float *row = s.q + (i64)(h * P::kTokens + t) * kD;
      i64 from = (i64)(s.firstToken + t) * Cfg::kQStride +
                 (s.kvHead * kGroup + h) * Cfg::kQHeadStride;
      if (t < s.tokens)
        placeHead<Cfg>(args.q + from, args.qNorm, s.cosines, s.sines,
                       Cfg::kScale, row);
      else
        for (int i = 0; i < kD; i += 16)
          store(row + i, splat(0.0f));
    }
  }
}

/// Packs the block's `count` positions; those missing become zero.
template <class Cfg>
static void packBlock(const PrefillTile &s, const typename Cfg::Kv *k,
                      const typename Cfg::Kv *v, int count) {
  using P = PrefillDims<Cfg>;
  constexpr int kD = P::kD;
  for (int j = 0; j < kScoreBlock; j += 16) {
    int left = count - j;
    float *to =
        s.keys + j / P::kKeyPanel * P::kKeyPanel * kD + j % P::kKeyPanel;
    for (int c = 0; c < kD; c += 16) {
      f32x16 m[16];
      for (int i = 0; i < 16; ++i)
        m[i] = i < left ? loadAs(k + (i64)(j + i) * kD + c) : splat(0.0f);
      transpose(m);
      for (int i = 0; i < 16; ++i)
        store(to + (c + i) * P::kKeyPanel, m[i]);
    }
  }
  for (int j = 0; j < kScoreBlock; ++j)
    for (int c = 0; c < kD; c += 16) {
      float *to = s.values + c / P::kValuePanel * P::kValuePanel * kScoreBlock;
      store(to + j * P::kValuePanel + c % P::kValuePanel,
            j < count ? loadAs(v + (i64)j * kD + c) : splat(0.0f));
    }
}

/// Positions of this block that the row tile at token `t` may see, at most.
template <class Cfg> LATHE_INLINE int visible(const PrefillTile &s, int t) {
  int count = s.position + t + kTileRows - s.first;
  return count < 0 ? 0 : count < kScoreBlock ? count : kScoreBlock;
}

/// Scores of all rows, then their softmax weights and rescaling factors.
template <class Cfg> static void scoreBlock(const PrefillTile &s) {
  using P = PrefillDims<Cfg>;
  constexpr int kD = P::kD, kPanel = P::kKeyPanel;
  for (int j = 0; j < kScoreBlock; j += kPanel)
    for (int row = 0; row < P::kRows; row += kTileRows) {
      if (j >= visible<Cfg>(s, row % P::kTokens))
        continue;
      Tile<kTileRows, P::kKeyVectors> acc = {};
      multiply(acc, s.q + (i64)row * kD, kD, 1, s.keys + j * kD, kPanel, kD);
#pragma unroll
      for (int r = 0; r < kTileRows; ++r)
#pragma unroll
        for (int x = 0; x < P::kKeyVectors; ++x)
          store(s.scores + (row + r) * kScoreBlock + j + 16 * x, acc.v[r][x]);
    }
  for (int row = 0; row < P::kRows; ++row) {
    int t = row % P::kTokens;
    if (visible<Cfg>(s, t / kTileRows * kTileRows) > 0)
      s.scale[row] =
          softmaxBlock(s.scores + row * kScoreBlock,
                       s.position + t + 1 - s.first, s.peak[row], s.total[row]);
  }
}

/// sums = sums * scale + weights V
template <class Cfg> static void addBlock(const PrefillTile &s) {
  using P = PrefillDims<Cfg>;
  constexpr int kD = P::kD, kPanel = P::kValuePanel;
  for (int c = 0; c < kD; c += kPanel)
    for (int row = 0; row < P::kRows; row += kTileRows) {
      int count = visible<Cfg>(s, row % P::kTokens);
      if (count == 0)
        continue;
      Tile<kTileRows, P::kValueVectors> acc;
      float *sums = s.sums + (i64)row * kD + c;
#pragma unroll
      for (int r = 0; r < kTileRows; ++r)
#pragma unroll
        for (int x = 0; x < P::kValueVectors; ++x)
          acc.v[r][x] = load(sums + r * kD + 16 * x) * s.scale[row + r];
      multiply(acc, s.scores + row * kScoreBlock, kScoreBlock, 1,
               s.values + c * kScoreBlock, kPanel, count);
#pragma unroll
      for (int r = 0; r < kTileRows; ++r)
#pragma unroll
        for (int x = 0; x < P::kValueVectors; ++x)
          store(sums + r * kD + 16 * x, acc.v[r][x]);
    }
}

template <class Cfg>
static void storeTile(const AttentionArgs<Cfg> &args, const PrefillTile &s) {
  using P = PrefillDims<Cfg>;
  constexpr int kD = P::kD, kGroup = P::A::kGroup;
  for (int h = 0; h < kGroup; ++h)
    for (int t = 0; t < s.tokens; ++t) {
      int row = h * P::kTokens + t;
      float *out = args.out + (i64)(s.firstToken + t) * Cfg::kOutStride +
                   (s.kvHead * kGroup + h) * kD;
      for (int i = 0; i < kD; i += 16)
        store(out + i, load(s.sums + (i64)row * kD + i) / s.total[row]);
    }
}

/// Attention for ctx->tokens >= 1 tokens from ctx->position on.
/// Needs attentionPrefillScratch(shape).bytes in ctx->local.
template <class Cfg>
static void attentionPrefill(const LatheContext *ctx, const float *q,
                             const float *k, const float *v, const float *qNorm,
                             const float *kNorm, typename Cfg::Kv *kCache,
                             typename Cfg::Kv *vCache, float *out) {
  using P = PrefillDims<Cfg>;
  AttentionArgs<Cfg> args{q, k, v, qNorm, kNorm, kCache, vCache, out};
  PrefillTile s = prefillScratch<Cfg>(ctx);
  appendCache<Cfg>(ctx, args, s);
  barrier(ctx);
  int tiles = (ctx->tokens + P::kTokens - 1) / P::kTokens;
  // Later tiles see more positions: deal them out in turn, longest first.
  for (int item = tiles * Cfg::kKvHeads - 1 - ctx->thread; item >= 0;
       item -= ctx->threads) {
    s.kvHead = item % Cfg::kKvHeads;
    s.firstToken = item / Cfg::kKvHeads * P::kTokens;
    int left = ctx->tokens - s.firstToken;
    s.tokens = left < P::kTokens ? left : P::kTokens;
    s.position = ctx->position + s.firstToken;
    startTile<Cfg>(args, s);
    i64 cacheAt = (i64)s.kvHead * ctx->capacity * P::kD;
    int end = s.position + s.tokens;
    for (s.first = 0; s.first < end; s.first += kScoreBlock) {
      i64 at = cacheAt + (i64)s.first * P::kD;
      packBlock<Cfg>(s, kCache + at, vCache + at, end - s.first);
      scoreBlock<Cfg>(s);
      addBlock<Cfg>(s);
    }
    storeTile<Cfg>(args, s);
  }
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_ATTENTION_PREFILL_H
