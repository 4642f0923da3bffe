//===- attention_prefill.cuh - attention for a prompt ----------*- CUDA -*-===//
//
// Attention of attention.cuh for many tokens after those in the cache, causal.
// Two entries, no workspace:
//
// 1. attentionPrefillAppend: K and V of every token into the cache.
// 2. attentionPrefillTiles. A block has a tile of query rows of one kv head:
//    all query heads that share it for a few tokens, token by token. It walks
//    over the positions they see, a step at a time. A warp has 16 of the rows
//    and keeps their sums, and the scores of a step, in registers.
//
// With an f16 cache queries and softmax weights are rounded to f16 once. With
// a float cache they are split in two parts like K and V.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_ATTENTION_PREFILL_CUH
#define LATHE_COMPILER_DEVICE_CUDA_ATTENTION_PREFILL_CUH

#include "compiler/device/cuda/attention.cuh"

namespace lathe {

/// One token of one kv head per warp.
template <class Cfg>
LATHE_DEVICE void appendToCache(const LatheLaunch &ctx,
                                const AttentionArgs<Cfg> &args) {
  constexpr int kD = Cfg::kHeadDim;
  const int token = blockY() * 8 + warp(), kvHead = blockX();
  if (token >= ctx.step->tokens)
    return;
  const int position = ctx.step->position + token;
  const float *v = args.v + (i64)token * Cfg::kVStride + kvHead * kD;
  const i64 at = ((i64)kvHead * ctx.capacity + position) * kD;
  float key[AttentionDims<Cfg>::kPerLane];
  placeHead<Cfg>(args.k + (i64)token * Cfg::kKStride + kvHead * kD, args.kNorm,
                 position, 1.0f, key);
#pragma unroll
  for (int j = 0; j < AttentionDims<Cfg>::kPerLane; ++j) {
    int i = lane() + 32 * j;
    if (i < kD) {
      storeAs(args.keys + at + i, key[j]);
      storeAs(args.values + at + i, v[i]);
    }
  }
}

template <class Cfg> class PrefillTile {
  using A = AttentionDims<Cfg>;
  using Kv = typename Cfg::Kv;
  using T = Tensor<Kv>;
  static constexpr AttentionPrefillShape kShape{A::kShape};
  static constexpr int kD = A::kD, kRowBytes = A::kRowBytes;
  static constexpr int kPositions = kShape.positions();
  static constexpr int kTokens = kShape.tokensPerBlock();

  const LatheLaunch &ctx;
  const AttentionArgs<Cfg> &args;
  char *const shared;
  const int kvHead, firstToken;
  const int tokens;   ///< of this tile
  const int position; ///< of its first token
  float sums[kD / 8][4];
  float scores[kPositions / 8][4];
  float peak[2], total[2]; ///< of rows g and g + 8; totals of the lane only

public:
  LATHE_DEVICE_MEMBER PrefillTile(const LatheLaunch &ctx,
                                  const AttentionArgs<Cfg> &args,
                                  int firstToken)
      : ctx(ctx), args(args), shared(sharedMemory()), kvHead(blockX()),
        firstToken(firstToken), tokens(ctx.step->tokens - firstToken < kTokens
                                           ? ctx.step->tokens - firstToken
                                           : kTokens),
        position(ctx.step->position + firstToken) {}

  /// While the weights of a step meet its values, the next step's keys are on
  /// their way; while its scores are made, its values are.
  LATHE_DEVICE_MEMBER void run() {
    const int end = position + tokens;
    const i64 cache = (i64)kvHead * ctx.capacity * kD;
    auto copy = [&](int at, const Kv *from, int first) {
      copyRows<Cfg, kPositions, kShape.threads()>(shared + at, from + cache,
                                                  first, end, 0);
      copyCommit();
    };
    copy(kShape.keysAt(), args.keys, 0);
    placeQueries();
    clear();
    for (int first = 0; first < end; first += kPositions) {
      copyWait<0>();
      syncThreads();
      copy(kShape.valuesAt(), args.values, first);
      score();
      copyWait<0>();
      syncThreads();
      if (first + kPositions < end)
        copy(kShape.keysAt(), args.keys, first + kPositions);
      soften(first);
      addValues();
    }
    store();
  }

private:
  /// Rows are [token][head of the group].
  static LATHE_DEVICE_MEMBER int tokenOf(int row) { return row / A::kGroup; }
  LATHE_DEVICE_MEMBER int headOf(int row) const {
    return kvHead * A::kGroup + row % A::kGroup;
  }
  LATHE_DEVICE_MEMBER char *queries() const {
    return shared + warp() * (kShape.queryBytes() / (kShape.threads() / 32));
  }

  /// Each warp places its own rows; those that do not exist are zero.
  LATHE_DEVICE_MEMBER void placeQueries() const {
    char *to = queries();
#pragma unroll 1
    for (int r = 0; r < 16; ++r) {
      int row = warp() * 16 + r;
      bool exists = tokenOf(row) < tokens;
      row = exists ? row : 0;
      i64 token = firstToken + tokenOf(row);
      float query[A::kPerLane];
      placeHead<Cfg>(args.q + token * Cfg::kQStride +
                         headOf(row) * Cfg::kQHeadStride,
                     args.qNorm, position + tokenOf(row),
                     exists ? Cfg::kScale : 0.0f, query);
      storeHead<Cfg>(query, [&](int i, float x) {
        storeAs((Kv *)(to + queryAt<Kv>(r, i)), x);
      });
    }
  }

  LATHE_DEVICE_MEMBER void clear() {
#pragma unroll
    for (int n = 0; n < kD / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        sums[n][i] = 0.0f;
    peak[0] = peak[1] = kNoScore;
    total[0] = total[1] = 0.0f;
  }

  LATHE_DEVICE_MEMBER void score() {
    const char *query = queries();
    const int at = chunksAt<kRowBytes>(lane() / 4);
#pragma unroll
    for (int n = 0; n < kPositions / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        scores[n][i] = 0.0f;
#pragma unroll 2
    for (int c = 0; c < A::kChunks; ++c) {
      Vec4 a = queriesOf(query, 2 * c), b = queriesOf(query, 2 * c + 1);
      typename T::Rows first = T::rows(a.x, a.y, a.z, a.w);
      typename T::Rows second = T::rows(b.x, b.y, b.z, b.w);
#pragma unroll
      for (int n = 0; n < kPositions / 8; ++n) {
        Vec4 key = chunkOf(shared + kShape.keysAt() + 8 * n * kRowBytes, at, c);
        T::multiply(scores[n], first, key.x, key.y);
        T::multiply(scores[n], second, key.z, key.w);
      }
    }
  }

  /// Scores become weights, and what was summed is brought to the new peak.
  LATHE_DEVICE_MEMBER void soften(int first) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int row = warp() * 16 + half * 8 + lane() / 4;
      // Columns of this lane that the row sees.
      int visible = position + tokenOf(row) + 1 - first - lane() % 4 * 2;
      float highest = peak[half];
#pragma unroll
      for (int n = 0; n < kPositions / 8; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float &s = scores[n][2 * half + i];
          s = 8 * n + i < visible ? s : kNoScore;
          highest = maximum(highest, s);
        }
      highest = maximum(highest, shuffleXor(highest, 1));
      highest = maximum(highest, shuffleXor(highest, 2));
      float factor = exp(peak[half] - highest), all = 0.0f;
      peak[half] = highest;
#pragma unroll
      for (int n = 0; n < kPositions / 8; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float &s = scores[n][2 * half + i];
          s = exp(s - highest);
          all = add(all, s);
        }
      total[half] = fma(total[half], factor, all);
      // Once the highest scores have been seen, nothing changes any more.
      if (ballot(factor != 1.0f) != 0)
#pragma unroll
        for (int n = 0; n < kD / 8; ++n)
#pragma unroll
          for (int i = 0; i < 2; ++i)
            sums[n][2 * half + i] *= factor;
    }
  }

  LATHE_DEVICE_MEMBER void addValues() {
    const char *tile = shared + kShape.valuesAt();
    const int at = T::template valuesAt<kRowBytes>(0);
#pragma unroll
    for (int step = 0; step < kPositions / T::kDepth; ++step) {
      typename T::Rows weights = T::weights(scores, step);
#pragma unroll
      for (int pair = 0; pair < kD / 16; ++pair) {
        u32 b[4];
        T::template values<kRowBytes>(b, tile, at, step, pair);
        T::multiply(sums[2 * pair], weights, b[0], b[1]);
        T::multiply(sums[2 * pair + 1], weights, b[2], b[3]);
      }
    }
  }

  LATHE_DEVICE_MEMBER void store() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float all = add(total[half], shuffleXor(total[half], 1));
      all = add(all, shuffleXor(all, 2));
      int row = warp() * 16 + half * 8 + lane() / 4;
      float *to = args.out +
                  (i64)(firstToken + tokenOf(row)) * Cfg::kOutStride +
                  headOf(row) * kD + lane() % 4 * 2;
      if (tokenOf(row) < tokens)
#pragma unroll
        for (int n = 0; n < kD / 8; ++n)
          *(Float2 *)(to + 8 * n) = {sums[n][2 * half] / all,
                                     sums[n][2 * half + 1] / all};
    }
  }
};

/// The first entry: grid kvHeads x ceil(tokens / 8), 256 threads.
template <class Cfg>
LATHE_DEVICE void attentionPrefillAppend(const LatheLaunch &ctx,
                                         const AttentionArgs<Cfg> &args) {
  launchNext();
  waitForPrevious();
  appendToCache<Cfg>(ctx, args);
}

/// The second entry: grid kvHeads x ceil(tokens / kShape.tokensPerBlock()),
/// kShape.threads() threads with kShape.sharedBytes(). The last tokens, which
/// see most, come first.
template <class Cfg>
LATHE_DEVICE void attentionPrefillTiles(const LatheLaunch &ctx,
                                        const AttentionArgs<Cfg> &args) {
  constexpr AttentionPrefillShape kShape{AttentionDims<Cfg>::kShape};
  launchNext();
  waitForPrevious();
  const int tiles = ceilDiv(ctx.step->tokens, kShape.tokensPerBlock());
  const int tile = tiles - 1 - blockY();
  if (tile >= 0)
    PrefillTile<Cfg>(ctx, args, tile * kShape.tokensPerBlock()).run();
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_ATTENTION_PREFILL_CUH
