//===- attention_decode.cuh - attention for a few tokens -------*- CUDA -*-===//
//
// Attention of attention.cuh for T = 1 to 8 tokens on top of a long cache,
// which is the traffic: a block reads a range of positions once for all query
// rows (token and head) that share the kv head. Two entries:
//
// 1. attentionDecodeRanges. A leaf is a fixed range of positions, a run is four
//    leaves. A block has a contiguous share of all runs, or of all leaves where
//    there are few runs, and leaves a partial result (sums, peak, total) per
//    row and run or leaf in the scratch: [run or leaf][kv head][row][D + 4].
// 2. attentionDecodeCombine, one block per row.
//
// A row's result depends on nothing but its own position and inputs, bit for
// bit: leaves are summed from zero, folded in order into their run, and runs
// in a fixed order into the result, by the same operations whether that happens
// in registers or from scratch; a leaf after the row's position changes
// nothing; rows of an mma do not see each other.
//
// A tile is eight query rows. An operand of 16 rows holds their upper parts in
// rows 0-7 and their lower parts in rows 8-15, so one mma does both and a lane
// finds the two halves of a sum in its own registers. Scores go through shared
// memory, where a warp turns a row of each tile into weights, in place.
//
// Only the block of pass 0 whose leaf contains a new position writes it to the
// cache, and nobody reads it there: every block makes the rows that it needs.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_CUH
#define LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_CUH

#include "compiler/device/cuda/attention_decode_rows.cuh"

namespace lathe {

template <class Cfg> class DecodeRanges {
  using A = AttentionDims<Cfg>;
  using Kv = typename Cfg::Kv;
  using Split = SplitTensor<Kv>;
  using Rows = DecodeRows<Cfg>;
  using Place = typename Rows::Place;
  static constexpr AttentionDecodeShape kShape = Rows::kShape;
  static constexpr int kD = A::kD, kLeaf = kShape.leaf();
  static constexpr int kTiles = kShape.tiles();
  static constexpr int kScores = kShape.scoreStride();
  static constexpr int kSteps = kLeaf / Tensor<Kv>::kDepth;
  /// 16 columns of the result: each warp has every eighth.
  static constexpr int kPairs = ceilDiv(kD / 16, 8);

  const Rows rows;
  char *const shared;
  float peak[kTiles], total[kTiles]; ///< of row 8 tile + warp
  float sums[kTiles][kPairs][4];     ///< of row 8 tile + lane / 4

public:
  LATHE_DEVICE_MEMBER DecodeRanges(const LatheLaunch &ctx,
                                   const AttentionArgs<Cfg> &args)
      : rows(ctx, args), shared(sharedMemory()) {}

  /// The keys of the next leaf are on their way from the moment when the scores
  /// of this one are known, its values from when they have been added. The
  /// first time round there is no leaf yet.
  LATHE_DEVICE_MEMBER void run() {
    const int begin = rows.shareOf(blockX());
    int left = rows.shareOf(blockX() + 1) - begin;
    if (left == 0)
      return;
    Place at{}, next = rows.place(begin);
    bool starts = true; // a unit, and so does the leaf after this one
    for (bool first = true;; first = false) {
      if (!first) {
        copyWait<1>();
        syncThreads();
        score();
        syncThreads();
      }
      if (left > 0)
        rows.loadKeys(next);
      copyCommit();
      if (!first) {
        soften(at);
        copyWait<1>();
        syncThreads();
        addValues();
        starts = rows.plan.endsUnit(at.leaf);
        if (starts)
          store(at);
      }
      if (left-- == 0)
        return;
      if (starts)
        clear();
      syncThreads();
      rows.loadValues(next);
      copyCommit();
      if (first || next.head != at.head)
        rows.placeQueries(next);
      at = next;
      next = rows.after(at);
    }
  }

private:
  LATHE_DEVICE_MEMBER float *scores(int row) const {
    return (float *)(shared + kShape.scoresAt()) + row * kScores;
  }
  LATHE_DEVICE_MEMBER Fold *scales() const {
    return (Fold *)(shared + kShape.scalesAt());
  }

  /// Scores of all rows: a warp has eight positions, and with few positions
  /// every second tile. Two chains of sums, or each mma waits for the last.
  LATHE_DEVICE_MEMBER void score() const {
    constexpr int kTeams = 64 / kLeaf, kMine = ceilDiv(kTiles, kTeams);
    const int warp = lathe::warp();
    const int column = warp % (kLeaf / 8) * 8;
    const int team = kTeams > 1 ? warp / (kLeaf / 8) : 0;
    const int at = chunksAt<A::kRowBytes>(lane() / 4);
    const char *keys = shared + kShape.keysAt() + column * A::kRowBytes;
    float s[kMine][2][4] = {};
#pragma unroll 2
    for (int c = 0; c < A::kChunks; ++c) {
      Vec4 key = chunkOf(keys, at, c);
#pragma unroll
      for (int m = 0; m < kMine; ++m) {
        int tile = m * kTeams + team;
        // The last tile may be one that another team has, too.
        tile = tile < kTiles ? tile : kTiles - 1;
        Split::score(s[m], rows.queries(tile), c, key);
      }
    }
#pragma unroll
    for (int m = 0; m < kMine; ++m) {
      int tile = m * kTeams + team;
      float *to = scores(8 * tile + lane() / 4) + column + lane() % 4 * 2;
      if (tile < kTiles)
        *(Float2 *)to = {
            add(add(s[m][0][0], s[m][1][0]), add(s[m][0][2], s[m][1][2])),
            add(add(s[m][0][1], s[m][1][1]), add(s[m][0][3], s[m][1][3]))};
    }
  }

  /// Turns scores into weights relative to the leaf's own peak, zero after the
  /// row's position, and folds peaks and totals.
  LATHE_DEVICE_MEMBER void soften(const Place &at) {
    constexpr int kPer = kLeaf / 32;
    const int warp = lathe::warp();
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      int row = 8 * tile + warp, token = (at.firstRow() + row) / A::kGroup;
      int visible = rows.position + token + 1 - at.leaf * kLeaf;
      float x[kPer], highest = kNoScore, all = 0.0f;
#pragma unroll
      for (int i = 0; i < kPer; ++i) {
        int column = kPer * lane() + i;
        x[i] = column < visible ? scores(row)[column] : kNoScore;
        highest = maximum(highest, x[i]);
      }
      highest = warpMax(highest);
#pragma unroll
      for (int i = 0; i < kPer; ++i) {
        x[i] = kPer * lane() + i < visible ? exp(x[i] - highest) : 0.0f;
        all = add(all, x[i]);
      }
      syncWarp();
      Split::storeWeights(scores(row), x);
      Fold f = foldPeak(peak[tile], highest);
      total[tile] = folded(total[tile], warpSum(all), f);
      if (lane() == 0)
        scales()[row] = f;
    }
  }

  /// Values, weighted, of one leaf, folded into the sums. Warps that have no
  /// columns do it with whatever follows the row, and do not store it.
  LATHE_DEVICE_MEMBER void addValues() {
    const int at = Tensor<Kv>::template valuesAt<A::kRowBytes>(warp());
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      // Or the compiler holds the weights of all steps in registers.
      syncWarp();
      float d[kTiles][2][4] = {};
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        u32 value[4];
        Tensor<Kv>::template values<A::kRowBytes>(
            value, shared + kShape.valuesAt(), at, step, 8 * p);
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          u32 weight[4];
          Split::weights(weight, scores(8 * tile), kScores, step);
          Split::multiply(d[tile][0], weight, value[0], value[1]);
          Split::multiply(d[tile][1], weight, value[2], value[3]);
        }
      }
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        Fold f = scales()[8 * tile + lane() / 4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float (&sum)[4] = d[tile][i / 2];
          sums[tile][p][i] =
              folded(sums[tile][p][i], add(sum[i % 2], sum[i % 2 + 2]), f);
        }
      }
    }
  }

  LATHE_DEVICE_MEMBER void clear() {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      peak[tile] = kNoScore;
      total[tile] = 0.0f;
#pragma unroll
      for (int i = 0; i < 4 * kPairs; ++i)
        sums[tile][i / 4][i % 4] = 0.0f;
    }
  }

  LATHE_DEVICE_MEMBER void store(const Place &at) const {
    const int warp = lathe::warp();
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      int row = at.firstRow() + 8 * tile + lane() / 4;
      float *to = rows.partial(at, row);
#pragma unroll
      for (int i = 0; i < 2 * kPairs; ++i) {
        int column = (warp + i / 2 * 8) * 16 + i % 2 * 8 + lane() % 4 * 2;
        if (row < kShape.rows() && column < kD)
          *(Float2 *)(to + column) = {sums[tile][i / 2][i % 2 * 2],
                                      sums[tile][i / 2][i % 2 * 2 + 1]};
      }
      row = at.firstRow() + 8 * tile + warp;
      to = rows.partial(at, row);
      if (lane() == 0 && row < kShape.rows())
        *(Float2 *)(to + kD) = {peak[tile], total[tile]};
    }
  }
};

/// The first entry: kShape.blocks blocks of kShape.threads() threads with
/// kShape.sharedBytes(), kShape being DecodePlan<Cfg>::kShape.
template <class Cfg>
LATHE_DEVICE void attentionDecodeRanges(const LatheLaunch &ctx,
                                        const AttentionArgs<Cfg> &args) {
  launchNext();
  waitForPrevious();
  DecodeRanges<Cfg>(ctx, args).run();
}

/// The second entry: grid heads x tokens, kShape.combineThreads() threads with
/// kShape.combineSharedBytes().
template <class Cfg>
LATHE_DEVICE void attentionDecodeCombine(const LatheLaunch &ctx,
                                         const AttentionArgs<Cfg> &args) {
  launchNext();
  waitForPrevious();
  DecodeCombine<Cfg>(ctx).run(args.out);
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_CUH
