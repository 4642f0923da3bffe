//===- attention_decode_rows.cuh - what a decode team reads ----*- CUDA -*-===//
//
// The first half of attention_decode.cuh: which leaf is next, and rows on their
// way into shared memory: K and V from the cache, those of the new tokens and
// the queries from the activations.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_ROWS_CUH
#define LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_ROWS_CUH

#include "compiler/device/cuda/attention_combine.cuh"

namespace lathe {

/// Some threads of a block that work together: team `number` of those with
/// kShape.threads() threads, which are all of a block if it is `alone`.
struct DecodeTeam {
  int number; ///< of the whole grid, below `teams`
  int thread, warp;
  int barrier; ///< 0: the block's
  char *shared;

  template <int kThreads> LATHE_DEVICE_MEMBER void sync() const {
    if (barrier == 0)
      syncThreads();
    else
      syncNamed(barrier, kThreads);
  }
};

/// A thread's part of the weighted values: of every tile, four sums in each of
/// its groups of 16 columns.
template <int kTiles, int kPairs> struct DecodeSums {
  float at[kTiles][kPairs][4];

  LATHE_DEVICE_MEMBER void clear() {
    each([this](int tile, int p, int i) { at[tile][p][i] = 0.0f; });
  }
  /// Calls f(tile, pair, i).
  template <class F> static LATHE_DEVICE_MEMBER void each(F f) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int p = 0; p < kPairs; ++p)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          f(tile, p, i);
  }
};

template <class Cfg> class DecodeRows {
  using A = AttentionDims<Cfg>;
  using Kv = typename Cfg::Kv;

public:
  using Plan = DecodePlan<Cfg>;
  static constexpr AttentionDecodeShape kShape = Plan::kShape;
  using Head = float[A::kPerLane];

private:
  static constexpr int kD = A::kD, kLeaf = kShape.leaf();
  static constexpr int kTiles = kShape.tiles(), kPasses = kShape.passes();

public:
  /// A leaf of a kv head in one of the passes.
  struct Place {
    int head, leaf;
    LATHE_DEVICE_MEMBER int kvHead() const { return head / kPasses; }
    LATHE_DEVICE_MEMBER int firstRow() const {
      return head % kPasses * (8 * kTiles);
    }
  };

  const LatheLaunch &ctx;
  const AttentionArgs<Cfg> &args;
  const DecodeTeam team;
  const int position;
  const Plan plan;

  LATHE_DEVICE_MEMBER DecodeRows(const LatheLaunch &ctx,
                                 const AttentionArgs<Cfg> &args,
                                 const DecodeTeam &team)
      : ctx(ctx), args(args), team(team), position(ctx.step->position),
        plan(position) {}

  LATHE_DEVICE_MEMBER void sync() const {
    team.template sync<kShape.threads()>();
  }

  /// The place where team `number`'s share of all units starts, as a number:
  /// leaves of a head in order, head by head.
  LATHE_DEVICE_MEMBER int shareOf(int number) const {
    int units = number * (Cfg::kKvHeads * kPasses * plan.units) / Cfg::kBlocks;
    int head = units / plan.units;
    return head * plan.leaves + plan.firstLeaf(units - head * plan.units);
  }
  LATHE_DEVICE_MEMBER Place place(int number) const {
    int head = number / plan.leaves;
    return {head, number - head * plan.leaves};
  }
  LATHE_DEVICE_MEMBER Place after(const Place &at) const {
    return at.leaf + 1 < plan.leaves ? Place{at.head, at.leaf + 1}
                                     : Place{at.head + 1, 0};
  }
  LATHE_DEVICE_MEMBER float *partial(const Place &at, int row) const {
    return Plan::partial(ctx, plan.unitOf(at.leaf), at.kvHead(), row);
  }

  /// Copies of a leaf's rows, which a thread starts in kParts parts.
  struct Copies {
    char *to;
    const char *from;
    bool any = false;
  };
  static constexpr int kParts = 4;

  /// Those of a leaf, if `wanted`, that this step does not write, into its
  /// stage.
  LATHE_DEVICE_MEMBER Copies keysOf(const Place &at, int stage,
                                    bool wanted) const {
    return copiesOf(at, keysAt(stage), args.keys, wanted);
  }
  LATHE_DEVICE_MEMBER Copies valuesOf(const Place &at, int stage,
                                      bool wanted) const {
    return copiesOf(at, valuesAt(stage), args.values, wanted);
  }
  static LATHE_DEVICE_MEMBER void copy(const Copies &copies, int part) {
    if constexpr (kRegular)
#pragma unroll
      for (int k = part * kGroups / kParts; k < (part + 1) * kGroups / kParts;
           ++k)
        copyAsync16If(copies.any, copies.to + k * kGroupRows * A::kRowBytes,
                      copies.from + k * kGroupRows * kD * (int)sizeof(Kv));
  }
  static LATHE_DEVICE_MEMBER void copy(const Copies &copies) {
#pragma unroll
    for (int part = 0; part < kParts; ++part)
      copy(copies, part);
  }

  /// Warp w makes the rows of token w where they fall in this leaf.
  LATHE_DEVICE_MEMBER bool makesFresh(const Place &at) const {
    int row = position + team.warp - at.leaf * kLeaf;
    return team.warp < Cfg::kTokens && row >= 0 && row < kLeaf;
  }
  LATHE_DEVICE_MEMBER const float *newKey(const Place &at) const {
    return args.k + team.warp * Cfg::kKStride + at.kvHead() * kD;
  }
  LATHE_DEVICE_MEMBER const float *newValue(const Place &at) const {
    return args.v + team.warp * Cfg::kVStride + at.kvHead() * kD;
  }
  LATHE_DEVICE_MEMBER void keepKey(const Place &at, int stage,
                                   const Head &loaded,
                                   const HeadWeights<Cfg> &weights) const {
    Head key;
    HeadTurns<Cfg> turns;
    turns.make(position + team.warp);
    placeHead<Cfg>(loaded, newKey(at), weights, args.kNorm, turns, 1.0f, key);
    keep(at, keysAt(stage), args.keys, key);
  }
  LATHE_DEVICE_MEMBER void keepValue(const Place &at, int stage,
                                     const Head &loaded) const {
    keep(at, valuesAt(stage), args.values, loaded);
  }

  /// Row 8 tile + warp of the pass; rows beyond the last repeat row 0.
  LATHE_DEVICE_MEMBER const float *query(const Place &at, int tile) const {
    int row = rowOf(at, tile);
    row = row < kShape.rows() ? row : 0;
    int head = at.kvHead() * A::kGroup + row % A::kGroup;
    return args.q + row / A::kGroup * Cfg::kQStride + head * Cfg::kQHeadStride;
  }
  LATHE_DEVICE_MEMBER int queryPosition(const Place &at, int tile) const {
    int row = rowOf(at, tile);
    return position + (row < kShape.rows() ? row / A::kGroup : 0);
  }
  /// Rows beyond the last become zero. Scores are exponents of 2.
  LATHE_DEVICE_MEMBER void placeQuery(const Place &at, int tile,
                                      const Head &loaded,
                                      const HeadWeights<Cfg> &weights,
                                      const HeadTurns<Cfg> &turns,
                                      Head &query) const {
    constexpr float kLog2E = 1.44269504f;
    float scale = rowOf(at, tile) < kShape.rows() ? Cfg::kScale * kLog2E : 0.0f;
    placeHead<Cfg>(loaded, this->query(at, tile), weights, args.qNorm, turns,
                   scale, query);
  }

private:
  LATHE_DEVICE_MEMBER char *keysAt(int stage) const {
    return team.shared + kShape.keysAt(stage);
  }
  LATHE_DEVICE_MEMBER char *valuesAt(int stage) const {
    return team.shared + kShape.valuesAt(stage);
  }
  LATHE_DEVICE_MEMBER int rowOf(const Place &at, int tile) const {
    return at.firstRow() + 8 * tile + team.warp;
  }
  LATHE_DEVICE_MEMBER i64 cacheAt(int kvHead) const {
    return (i64)kvHead * ctx.capacity * kD;
  }
  /// Pieces of a row, and rows that the threads copy at once. A thread's pieces
  /// have the same place in all its rows where these are regular.
  static constexpr int kPer = 4 * A::kChunks;
  static constexpr int kGroupRows = kShape.threads() / kPer;
  static constexpr int kGroups = kLeaf / kGroupRows;
  static constexpr bool kRegular =
      kShape.threads() % kPer == 0 && kGroupRows % 8 == 0 &&
      kLeaf % kGroupRows == 0 && A::kPieces == kPer;

  /// Where not all rows are in the cache, the copies start here.
  LATHE_DEVICE_MEMBER Copies copiesOf(const Place &at, char *tile,
                                      const Kv *cache, bool wanted) const {
    Copies copies;
    const int row = team.thread / kPer, piece = team.thread % kPer;
    copies.any = kRegular && wanted && (at.leaf + 1) * kLeaf <= position;
    copies.to = tile + pieceAt<A::kRowBytes>(row, piece);
    copies.from = (const char *)(cache + cacheAt(at.kvHead()) +
                                 (i64)(at.leaf * kLeaf + row) * kD) +
                  piece * 16;
    if (wanted && !copies.any)
      copyRows<Cfg, kLeaf, kShape.threads()>(tile, cache + cacheAt(at.kvHead()),
                                             at.leaf * kLeaf, position,
                                             Cfg::kTokens, team.thread);
    return copies;
  }
  /// Puts a token's row into the tile and, in the first pass, into the cache.
  LATHE_DEVICE_MEMBER void keep(const Place &at, char *tile, Kv *cache,
                                const Head &x) const {
    const int own = position + team.warp, row = own - at.leaf * kLeaf;
    cache += cacheAt(at.kvHead()) + (i64)own * kD;
    const int columns = at.head % kPasses == 0 ? kD : 0;
    storeHead<Cfg>(x, [&](int i, float value) {
      storeAs((Kv *)(tile + elementAt<A::kRowBytes, Kv>(row, i)), value);
    });
#pragma unroll
    for (int j = 0; j < A::kPerLane; ++j)
      if (lane() + 32 * j < columns)
        storeAs(cache + lane() + 32 * j, x[j]);
  }
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_ROWS_CUH
