//===- attention_decode.h - attention for a few tokens ----------*- C++ -*-===//
//
// Attention of attention.h for up to eight tokens on top of a long cache,
// which is the traffic: a block of positions is read once for all tokens and
// all query heads of the thread that share its kv head.
//
// Query heads are split over the team. Threads that share a kv head each make
// the new K and V rows, already rounded to the cache's type, and read those
// from their own copy; the thread of the group's first head writes the cache.
// So nobody reads what another writes, and no barrier is needed.
//
// A query's row is computed by a sequence of operations that depends on its
// own position alone: blocks start at fixed positions, positions after its
// own are left out, and each score is one chain and one fixed tree.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_ATTENTION_DECODE_H
#define LATHE_COMPILER_DEVICE_CPU_ATTENTION_DECODE_H

#include "compiler/device/cpu/attention.h"

namespace lathe {

/// The rows of one kv head: first those in the cache, then the new ones.
template <class Kv> struct KvRows {
  const Kv *cached, *fresh;
  int split; ///< position of the first new row
  int width;
};

template <class Kv>
LATHE_INLINE const Kv *rowAt(const KvRows<Kv> &rows, int position) {
  return position < rows.split
             ? rows.cached + (i64)position * rows.width
             : rows.fresh + (i64)(position - rows.split) * rows.width;
}

/// This thread's state for one kv head; query rows are [token][kGroup].
template <class Kv> struct DecodeGroup {
  float *q, *sums, *peak, *total;
  KvRows<Kv> k, v;
  int heads; ///< query heads of the group that this thread owns
};

/// scores[r][j] = q_r . k_j for positions first .. first + valid. Meanwhile
/// it fetches the values of these positions and the keys that come next:
/// several rows at a time are more than the hardware foresees.
template <int kRows, int kD, class Kv>
static void scoreRows(const float *q, const KvRows<Kv> &k, const KvRows<Kv> &v,
                      int first, int valid, float *scores) {
  constexpr int kColumns = 16 / kRows;
  constexpr int kStep = kAccumulators / kRows < 1 ? 1 : kAccumulators / kRows;
  for (int j = 0; j < valid; j += kColumns) {
    f32x16 products[16];
    for (int c = 0; c < kColumns; c += kStep) {
      const Kv *row[kStep], *value = v.cached + (i64)(first + j + c) * kD;
      for (int x = 0; x < kStep; ++x) {
        // Past the end, repeat the last row; nobody reads that score.
        int at = j + c + x;
        row[x] = rowAt(k, first + (at < valid ? at : valid - 1));
      }
      Tile<kRows, kStep> acc = {};
      for (int i = 0; i < kD; i += 16) {
        f32x16 key[kStep];
#pragma unroll
        for (int x = 0; x < kStep; ++x) {
          key[x] = loadAs(row[x] + i);
          __builtin_prefetch(row[x] + i + 8 * kD, 0, 2);
          __builtin_prefetch(value + x * kD + i, 0, 2);
        }
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          f32x16 query = load(q + r * kD + i);
#pragma unroll
          for (int x = 0; x < kStep; ++x)
            acc.v[r][x] = fma(query, key[x], acc.v[r][x]);
        }
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int x = 0; x < kStep; ++x)
          products[r * kColumns + c + x] = acc.v[r][x];
    }
    f32x16 dots = sumEach(products);
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int x = 0; x < kColumns; ++x)
        scores[r * kScoreBlock + j + x] = dots[r * kColumns + x];
  }
}

/// sums_r = sums_r * factor_r + sum_j weights[r][j] v_j
template <int kRows, int kD, class Kv>
static void addValues(const KvRows<Kv> &v, int first, int valid,
                      const float *weights, const float *factors, float *sums) {
  constexpr int kFit = kAccumulators / kRows < 1 ? 1 : kAccumulators / kRows;
  constexpr int kMost = kFit > 8 ? 8 : kFit;
  constexpr int kVectors = kD % (16 * kMost) == 0 ? kMost : 1;
  int cached = v.split - first;
  cached = cached < 0 ? 0 : cached > valid ? valid : cached;
  for (int i = 0; i < kD; i += 16 * kVectors) {
    Tile<kRows, kVectors> acc;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int x = 0; x < kVectors; ++x)
        acc.v[r][x] = load(sums + r * kD + i + 16 * x) * factors[r];
    if (cached > 0)
      multiply(acc, weights, kScoreBlock, 1, rowAt(v, first) + i, kD, cached);
    if (cached < valid)
      multiply(acc, weights + cached, kScoreBlock, 1,
               rowAt(v, first + cached) + i, kD, valid - cached);
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int x = 0; x < kVectors; ++x)
        store(sums + r * kD + i + 16 * x, acc.v[r][x]);
  }
}

/// A block of positions for kRows query heads of one token.
template <int kRows, int kD, class Kv>
static void decodeRows(const DecodeGroup<Kv> &g, int row, int first,
                       int valid) {
  alignas(64) float scores[kRows * kScoreBlock];
  float factors[kRows];
  scoreRows<kRows, kD>(g.q + row * kD, g.k, g.v, first, valid, scores);
  for (int r = 0; r < kRows; ++r)
    factors[r] = softmaxBlock(scores + r * kScoreBlock, valid, g.peak[row + r],
                              g.total[row + r]);
  addValues<kRows, kD>(g.v, first, valid, scores, factors, g.sums + row * kD);
}

template <class Cfg>
static void decodeGroup(const DecodeGroup<typename Cfg::Kv> &g, int position,
                        int tokens) {
  using A = AttentionDims<Cfg>;
  for (int first = 0; first < position + tokens; first += kScoreBlock)
    for (int t = 0; t < tokens; ++t) {
      int valid = position + t + 1 - first;
      valid = valid < kScoreBlock ? valid : kScoreBlock;
      if (valid <= 0)
        continue;
      int row = t * A::kGroup, end = row + g.heads;
      for (; row + 4 <= end; row += 4)
        decodeRows<4, A::kD>(g, row, first, valid);
      for (; row + 2 <= end; row += 2)
        decodeRows<2, A::kD>(g, row, first, valid);
      if (row < end)
        decodeRows<1, A::kD>(g, row, first, valid);
    }
}

/// Query heads [begin, end), which share one kv head.
template <class Cfg, int kMaxTokens>
static void decodeHeads(const LatheContext *ctx, const AttentionArgs<Cfg> &args,
                        int begin, int end) {
  using A = AttentionDims<Cfg>;
  using Kv = typename Cfg::Kv;
  constexpr int kD = A::kD;
  constexpr auto kAt = attentionDecodeScratch(A::shape(), kMaxTokens);
  char *local = (char *)ctx->local;
  auto at = [&](i64 offset) { return (float *)(local + offset); };
  int kvHead = begin / A::kGroup;
  i64 cacheAt = (i64)kvHead * ctx->capacity * kD;
  Kv *kFresh = (Kv *)at(kAt.kFresh), *vFresh = (Kv *)at(kAt.vFresh);
  DecodeGroup<Kv> g{at(kAt.q),
                    at(kAt.sums),
                    at(kAt.peak),
                    at(kAt.total),
                    {args.kCache + cacheAt, kFresh, ctx->position, kD},
                    {args.vCache + cacheAt, vFresh, ctx->position, kD},
                    end - begin};
  for (int t = 0; t < ctx->tokens; ++t) {
    const float *cosines = at(kAt.cosines) + t * A::kHalf;
    const float *sines = at(kAt.sines) + t * A::kHalf;
    Kv *k = kFresh + t * kD, *v = vFresh + t * kD;
    placeKeyValue<Cfg>(args, t, kvHead, cosines, sines, k, v);
    if (begin % A::kGroup == 0) {
      i64 row = cacheAt + (i64)(ctx->position + t) * kD;
      __builtin_memcpy(args.kCache + row, k, kD * sizeof(Kv));
      __builtin_memcpy(args.vCache + row, v, kD * sizeof(Kv));
    }
    for (int h = begin; h < end; ++h) {
      int row = t * A::kGroup + h - begin;
      placeHead<Cfg>(args.q + (i64)t * Cfg::kQStride + h * Cfg::kQHeadStride,
                     args.qNorm, cosines, sines, Cfg::kScale, g.q + row * kD);
      g.peak[row] = kMinusInfinity;
      g.total[row] = 0.0f;
      for (int i = 0; i < kD; i += 16)
        store(g.sums + row * kD + i, splat(0.0f));
    }
  }
  decodeGroup<Cfg>(g, ctx->position, ctx->tokens);
  for (int t = 0; t < ctx->tokens; ++t)
    for (int h = begin; h < end; ++h) {
      int row = t * A::kGroup + h - begin;
      float *out = args.out + (i64)t * Cfg::kOutStride + h * kD;
      for (int i = 0; i < kD; i += 16)
        store(out + i, load(g.sums + row * kD + i) / g.total[row]);
    }
}

/// Attention for ctx->tokens <= kMaxTokens tokens from ctx->position on.
/// Needs attentionDecodeScratch(shape, kMaxTokens).bytes in ctx->local.
template <class Cfg, int kMaxTokens>
static void attentionDecode(const LatheContext *ctx, const float *q,
                            const float *k, const float *v, const float *qNorm,
                            const float *kNorm, typename Cfg::Kv *kCache,
                            typename Cfg::Kv *vCache, float *out) {
  using A = AttentionDims<Cfg>;
  constexpr auto kAt = attentionDecodeScratch(A::shape(), kMaxTokens);
  AttentionArgs<Cfg> args{q, k, v, qNorm, kNorm, kCache, vCache, out};
  Range heads = shareOf(ctx, Cfg::kHeads);
  if (heads.begin == heads.end)
    return;
  char *local = (char *)ctx->local;
  for (int t = 0; t < ctx->tokens; ++t)
    angles<Cfg>(ctx->position + t,
                (float *)(local + kAt.cosines) + t * A::kHalf,
                (float *)(local + kAt.sines) + t * A::kHalf);
  for (int h = heads.begin; h < heads.end;) {
    int end = (h / A::kGroup + 1) * A::kGroup;
    end = end < heads.end ? end : heads.end;
    decodeHeads<Cfg, kMaxTokens>(ctx, args, h, end);
    h = end;
  }
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_ATTENTION_DECODE_H
