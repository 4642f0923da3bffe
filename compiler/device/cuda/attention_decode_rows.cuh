//===- attention_decode_rows.cuh - what a decode block reads ---*- CUDA -*-===//
//
// The first half of attention_decode.cuh: which leaf is next, and rows on their
// way into shared memory: K and V from the cache, those of the new tokens and
// the queries from the activations.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_ROWS_CUH
#define LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_ROWS_CUH

#include "compiler/device/cuda/attention_combine.cuh"
#include "compiler/device/cuda/attention_split.cuh"

namespace lathe {

template <class Cfg> class DecodeRows {
  using A = AttentionDims<Cfg>;
  using Kv = typename Cfg::Kv;
  using Split = SplitTensor<Kv>;

public:
  using Plan = DecodePlan<Cfg>;
  static constexpr AttentionDecodeShape kShape = Plan::kShape;

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
  const int position;
  const Plan plan;
  char *const shared;

  LATHE_DEVICE_MEMBER DecodeRows(const LatheLaunch &ctx,
                                 const AttentionArgs<Cfg> &args)
      : ctx(ctx), args(args), position(ctx.step->position), plan(position),
        shared(sharedMemory()) {}

  /// The place where block `block`'s share of all units starts, as a number:
  /// leaves of a head in order, head by head.
  LATHE_DEVICE_MEMBER int shareOf(int block) const {
    int units = block * (Cfg::kKvHeads * kPasses * plan.units) / Cfg::kBlocks;
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

  LATHE_DEVICE_MEMBER char *queries(int tile) const {
    return shared + kShape.queriesAt() + tile * kShape.queryBytes();
  }
  LATHE_DEVICE_MEMBER i64 cacheAt(int kvHead) const {
    return (i64)kvHead * ctx.capacity * kD;
  }

  /// Warp w makes the rows of token w where they fall in this leaf.
  LATHE_DEVICE_MEMBER bool makesFresh(const Place &at) const {
    int row = position + warp() - at.leaf * kLeaf;
    return warp() < Cfg::kTokens && row >= 0 && row < kLeaf;
  }
  LATHE_DEVICE_MEMBER void keepFresh(const Place &at, char *tile, Kv *cache,
                                     const float (&x)[A::kPerLane]) const {
    const int own = position + warp(), row = own - at.leaf * kLeaf;
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
  LATHE_DEVICE_MEMBER void copy(const Place &at, char *tile,
                                const Kv *cache) const {
    copyRows<Cfg, kLeaf, kShape.threads()>(tile, cache + cacheAt(at.kvHead()),
                                           at.leaf * kLeaf, position,
                                           Cfg::kTokens);
  }
  /// Starts the copies of a leaf's keys, and makes those of new tokens.
  LATHE_DEVICE_MEMBER void loadKeys(const Place &at) const {
    copy(at, shared + kShape.keysAt(), args.keys);
    if (!makesFresh(at))
      return;
    float key[A::kPerLane];
    placeHead<Cfg>(args.k + warp() * Cfg::kKStride + at.kvHead() * kD,
                   args.kNorm, position + warp(), 1.0f, key);
    keepFresh(at, shared + kShape.keysAt(), args.keys, key);
  }
  LATHE_DEVICE_MEMBER void loadValues(const Place &at) const {
    copy(at, shared + kShape.valuesAt(), args.values);
    if (!makesFresh(at))
      return;
    float value[A::kPerLane];
    const float *from = args.v + warp() * Cfg::kVStride + at.kvHead() * kD;
#pragma unroll
    for (int j = 0; j < A::kPerLane; ++j) {
      int i = lane() + 32 * j;
      value[j] = i < kD ? from[i] : 0.0f;
    }
    keepFresh(at, shared + kShape.valuesAt(), args.values, value);
  }

  /// Warp w places row w of each tile; rows beyond the last are zero.
  LATHE_DEVICE_MEMBER void placeQueries(const Place &at) const {
    const int warp = lathe::warp();
#pragma unroll 1
    for (int tile = 0; tile < kTiles; ++tile) {
      int row = at.firstRow() + 8 * tile + warp;
      float scale = row < kShape.rows() ? Cfg::kScale : 0.0f;
      row = row < kShape.rows() ? row : 0;
      int token = row / A::kGroup;
      int head = at.kvHead() * A::kGroup + row % A::kGroup;
      float query[A::kPerLane];
      placeHead<Cfg>(args.q + token * Cfg::kQStride + head * Cfg::kQHeadStride,
                     args.qNorm, position + token, scale, query);
      storeHead<Cfg>(query, [&](int i, float x) {
        Split::storeQuery(queries(tile), warp, i, x);
      });
    }
  }
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_ATTENTION_DECODE_ROWS_CUH
