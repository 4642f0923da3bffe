//===- attention_decode.cuh - attention for a few tokens -------*- CUDA -*-===//
//
// Attention of attention.cuh for T = 1 to 8 tokens on top of a long cache,
// which is the traffic: a team of threads reads a range of positions once for
// all query rows (token and head) that share the kv head. Two stages:
//
// 1. DecodeRanges. A leaf is a fixed range of positions, a run is four leaves.
//    A team has a contiguous share of all runs, or of all leaves where there
//    are few runs, and leaves a partial result (sums, peak, total) per row and
//    run or leaf in the scratch: [run or leaf][kv head][row][D + 4].
// 2. DecodeCombine, which adds a row's partial results up.
//
// A row's result depends on nothing but its own position and inputs, bit for
// bit: leaves are summed from zero, folded in order into their run, and runs
// in a fixed order into the result, by the same operations whether that happens
// in registers or from scratch; a leaf after the row's position changes
// nothing; rows of an mma do not see each other.
//
// A tile is eight query rows; the products are in attention_decode_half.cuh and
// attention_decode_float.cuh. Scores go through shared memory, where a warp
// turns a row of each tile into weights, in place.
//
// Only the team of pass 0 whose leaf contains a new position writes it to the
// cache, and nobody reads it there: every team makes the rows that it needs. So
// the rows that prefetch() reads were written by earlier steps, as in
// delta_step.cuh. What comes after DecodeCombine may start before its inputs
// are complete, and vouches for itself.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_CUH
#define LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_CUH

#include "compiler/device/cuda/attention_decode_float.cuh"
#include "compiler/device/cuda/attention_decode_half.cuh"

namespace lathe {

template <class Cfg, class Kv> struct DecodeProductsOf {
  using Type = DecodeFloat<Cfg>;
};
template <class Cfg> struct DecodeProductsOf<Cfg, u16> {
  using Type = DecodeHalf<Cfg>;
};

/// The first stage for blocks of kThreads threads, kTeams teams in each: block
/// `block` of Cfg::kBlocks / kTeams, all of whose threads make every call, with
/// kTeams * kShape.sharedBytes() bytes. prefetch() may come before the inputs
/// are complete, run() after it.
template <class Cfg, int kThreads, int kTeams> class DecodeRanges {
  using A = AttentionDims<Cfg>;
  using Rows = DecodeRows<Cfg>;
  using Place = typename Rows::Place;
  using Head = typename Rows::Head;
  using Products = typename DecodeProductsOf<Cfg, typename Cfg::Kv>::Type;
  static constexpr AttentionDecodeShape kShape = Rows::kShape;
  static constexpr int kD = A::kD, kLeaf = kShape.leaf();
  static constexpr int kTiles = kShape.tiles(), kStages = kShape.stages;
  /// With several stages, the copies start in between the products, where
  /// nobody waits for the memory that they pass through: those of keys while
  /// values are added, those of values in the scores after. With one stage each
  /// starts as soon as there is room.
  static constexpr bool kWeaves = kStages > 1;
  static constexpr int kAheadValues = kWeaves ? kStages - 1 : kStages;
  /// Groups of copies that may be under way where a leaf's rows are needed.
  static constexpr int kPending = kStages + kAheadValues - 1;
  static constexpr int kTeamWarps = kShape.threads() / 32;
  static_assert(kThreads >= kTeams * kShape.threads());
  static_assert(Cfg::kBlocks % kTeams == 0);

  const Rows rows;
  Products products;
  Place at;
  Place keysAhead, valuesAhead;              ///< whose copies start next
  int left;                                  ///< leaves
  HeadWeights<Cfg> queryWeights, keyWeights; ///< at the start
  HeadTurns<Cfg> queryTurns[kTiles];
  float peak[kTiles], total[kTiles]; ///< of row 8 tile + warp

public:
  LATHE_DEVICE_MEMBER DecodeRanges(const LatheLaunch &ctx,
                                   const AttentionArgs<Cfg> &args, char *shared,
                                   int block)
      : rows(ctx, args, teamOf(shared, block)), products(rows.team) {
    const int number = rows.team.number;
    const int begin = rows.shareOf(number < Cfg::kBlocks ? number : 0);
    left = number < Cfg::kBlocks ? rows.shareOf(number + 1) - begin : 0;
    at = rows.place(begin);
  }

  LATHE_DEVICE_MEMBER void prefetch() {
    if (left == 0)
      return;
    keysAhead = valuesAhead = at;
#pragma unroll
    for (int stage = 0; stage < kStages; ++stage) {
      rows.copy(rows.keysOf(keysAhead, stage, stage < left));
      copyCommit();
      keysAhead = rows.after(keysAhead);
      if (stage < kAheadValues) {
        rows.copy(rows.valuesOf(valuesAhead, stage, stage < left));
        copyCommit();
        valuesAhead = rows.after(valuesAhead);
      }
    }
    queryWeights.load(rows.args.qNorm);
    keyWeights.load(rows.args.kNorm);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
      queryTurns[tile].make(rows.queryPosition(at, tile));
  }

  LATHE_DEVICE_MEMBER void run() {
    if (left > 0)
      start();
    for (int stage = 0; left > 0; --left) {
      copyWait<kPending>();
      rows.sync();
      score(stage);
      rows.sync();
      if constexpr (!kWeaves) {
        rows.copy(nextKeys(stage));
        copyCommit();
      }
      soften();
      copyWait<kPending>();
      rows.sync();
      addValues(stage);
      if (rows.plan.endsUnit(at.leaf)) {
        store();
        clear();
      }
      rows.sync();
      if constexpr (!kWeaves) {
        rows.copy(nextValues(stage));
        copyCommit();
      }
      const Place next = rows.after(at);
      if (left > 1 && next.head != at.head)
        placeQueries(next);
      at = next;
      stage = stage + 1 < kStages ? stage + 1 : 0;
    }
  }

private:
  static LATHE_DEVICE_MEMBER DecodeTeam teamOf(char *shared, int block) {
    const int warp = lathe::warp(), team = warp / kTeamWarps;
    // Threads beyond the last team have nothing to do.
    return {team < kTeams ? block * kTeams + team : Cfg::kBlocks,
            threadX() - team * kShape.threads(), warp - team * kTeamWarps,
            kThreads == kShape.threads() ? 0 : 1 + team,
            shared + team * kShape.sharedBytes()};
  }
  LATHE_DEVICE_MEMBER Fold *scales() const {
    return (Fold *)(rows.team.shared + kShape.scalesAt());
  }

  /// What the first leaf needs beside the copies: all loads come first.
  LATHE_DEVICE_MEMBER void start() {
    Head query[kTiles], key, value;
    loadQueries(at, query);
    const bool fresh = rows.makesFresh(at);
    if (fresh) {
      loadHead<Cfg>(rows.newKey(at), key);
      loadHead<Cfg>(rows.newValue(at), value);
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
      placeQuery(at, tile, query[tile], queryWeights, queryTurns[tile]);
    if (fresh) {
      rows.keepKey(at, 0, key, keyWeights);
      rows.keepValue(at, 0, value);
    }
    Place place = at;
#pragma unroll 1
    for (int stage = 1; stage < kStages && stage < left; ++stage) {
      place = rows.after(place);
      makeKey(place, stage);
      if (stage < kAheadValues)
        makeValue(place, stage);
    }
    rows.sync();
    products.takeQueries();
    clear();
  }

  LATHE_DEVICE_MEMBER void score(int stage) {
    typename Rows::Copies values;
    if (kWeaves)
      values = nextValues(stage > 0 ? stage - 1 : kStages - 1);
    products.score(stage, [&](int part) { rows.copy(values, part); });
    if (kWeaves)
      copyCommit();
  }
  LATHE_DEVICE_MEMBER void addValues(int stage) {
    typename Rows::Copies keys;
    if (kWeaves)
      keys = nextKeys(stage);
    products.addValues(stage, scales(),
                       [&](int part) { rows.copy(keys, part); });
    if (kWeaves)
      copyCommit();
  }
  /// Copies of the next leaf that has not been asked for, into a stage that
  /// nobody reads any more.
  LATHE_DEVICE_MEMBER typename Rows::Copies nextKeys(int stage) {
    const Place place = keysAhead;
    keysAhead = rows.after(place);
    if (left > kStages)
      makeKey(place, stage);
    return rows.keysOf(place, stage, left > kStages);
  }
  LATHE_DEVICE_MEMBER typename Rows::Copies nextValues(int stage) {
    const Place place = valuesAhead;
    valuesAhead = rows.after(place);
    if (left > kAheadValues)
      makeValue(place, stage);
    return rows.valuesOf(place, stage, left > kAheadValues);
  }
  /// This warp's new row where it falls in that leaf.
  LATHE_DEVICE_MEMBER void makeKey(const Place &later, int stage) const {
    if (!rows.makesFresh(later))
      return;
    Head key;
    loadHead<Cfg>(rows.newKey(later), key);
    HeadWeights<Cfg> weights;
    weights.load(rows.args.kNorm);
    rows.keepKey(later, stage, key, weights);
  }
  LATHE_DEVICE_MEMBER void makeValue(const Place &later, int stage) const {
    if (!rows.makesFresh(later))
      return;
    Head value;
    loadHead<Cfg>(rows.newValue(later), value);
    rows.keepValue(later, stage, value);
  }

  /// Warp w has row w of each tile.
  LATHE_DEVICE_MEMBER void loadQueries(const Place &next,
                                       Head (&query)[kTiles]) const {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
      loadHead<Cfg>(rows.query(next, tile), query[tile]);
  }
  LATHE_DEVICE_MEMBER void placeQuery(const Place &next, int tile,
                                      const Head &loaded,
                                      const HeadWeights<Cfg> &weights,
                                      const HeadTurns<Cfg> &turns) const {
    Head query;
    rows.placeQuery(next, tile, loaded, weights, turns, query);
    storeHead<Cfg>(query,
                   [&](int i, float x) { products.storeQuery(tile, i, x); });
  }
  /// Those of another head.
  LATHE_DEVICE_MEMBER void placeQueries(const Place &next) {
    HeadWeights<Cfg> weights;
    weights.load(rows.args.qNorm);
    Head query[kTiles];
    loadQueries(next, query);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      HeadTurns<Cfg> turns;
      turns.make(rows.queryPosition(next, tile));
      placeQuery(next, tile, query[tile], weights, turns);
    }
    rows.sync();
    products.takeQueries();
  }

  /// Turns scores into weights relative to the leaf's own peak, zero after the
  /// row's position, and folds peaks and totals.
  LATHE_DEVICE_MEMBER void soften() {
    constexpr int kPer = Products::kPer;
    float x[kTiles][kPer], highest[kTiles], all[kTiles];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const int row = 8 * tile + rows.team.warp;
      const int token = (at.firstRow() + row) / A::kGroup;
      const int visible = rows.position + token + 1 - at.leaf * kLeaf;
      products.loadScores(row, x[tile]);
      highest[tile] = kNoScore;
#pragma unroll
      for (int i = 0; i < kPer; ++i) {
        x[tile][i] = kPer * lane() + i < visible ? x[tile][i] : kNoScore;
        highest[tile] = maximum(highest[tile], x[tile][i]);
      }
    }
    warpMax(highest);
    syncWarp();
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      // Where there is no score, the weight is 0, also if there is none at all.
      const float base = maximum(highest[tile], kNoScore / 2);
      all[tile] = 0.0f;
#pragma unroll
      for (int i = 0; i < kPer; ++i) {
        x[tile][i] = exp2(x[tile][i] - base);
        all[tile] = add(all[tile], x[tile][i]);
      }
      products.storeWeights(8 * tile + rows.team.warp, x[tile]);
    }
    warpSum(all);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const Fold f = foldPeak(peak[tile], highest[tile]);
      total[tile] = folded(total[tile], all[tile], f);
      if (lane() == 0)
        scales()[8 * tile + rows.team.warp] = f;
    }
  }

  LATHE_DEVICE_MEMBER void clear() {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      peak[tile] = kNoScore;
      total[tile] = 0.0f;
    }
    products.clear();
  }

  LATHE_DEVICE_MEMBER void store() const {
    float *const to = rows.partial(at, at.firstRow());
    const int count = kShape.rows() - at.firstRow();
    products.visit([&](int row, int column, float sum) {
      if (row < count && column < kD)
        to[row * kShape.partialFloats() + column] = sum;
    });
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const int row = 8 * tile + rows.team.warp;
      if (lane() == 0 && row < count)
        *(Float2 *)(to + row * kShape.partialFloats() + kD) = {peak[tile],
                                                               total[tile]};
    }
  }
};

/// The first entry: kShape.blocks blocks of kShape.threads() threads with
/// kShape.sharedBytes(), kShape being DecodePlan<Cfg>::kShape.
template <class Cfg>
LATHE_DEVICE void attentionDecodeRanges(const LatheLaunch &ctx,
                                        const AttentionArgs<Cfg> &args) {
  DecodeRanges<Cfg, DecodePlan<Cfg>::kShape.threads(), 1> stage(
      ctx, args, sharedMemory(), blockX());
  stage.prefetch();
  waitForPrevious();
  launchNext();
  stage.run();
}

/// The second entry: grid heads * kShape.combineParts() x tokens,
/// kShape.combineThreads() threads with kShape.combineSharedBytes().
template <class Cfg>
LATHE_DEVICE void attentionDecodeCombine(const LatheLaunch &ctx,
                                         const AttentionArgs<Cfg> &args) {
  DecodeCombine<Cfg, DecodePlan<Cfg>::kShape.combineThreads()> stage(
      ctx, sharedMemory());
  // The next launch may fetch what no attention writes while this one awaits
  // its ranges.
  launchNext();
  waitForPrevious();
  stage.run(args.out, blockY() * gridX() + blockX(), gridX() * gridY());
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_CUH
