//===- matvec.cuh - a fused matrix times few vectors ------------*- CUDA
//-*-===//
//
// y = W x for one to eight tokens, bound by the stream of W. A kernel has one
// or more segments: weights that read the same x, each with its own epilogue.
// Row tiles of all segments are items; block b takes items b, b + grid, ...
//
// A block's units (weights.cuh), item after item, go to its warps in turn, so
// all warps stay busy whatever the shape. Each warp streams its units through a
// ring of its own in shared memory, filled by the copy engine; the ring runs on
// from item to item and starts before the previous launch has finished, since
// weights depend on nobody. Per item a warp leaves its sums in a buffer, and
// one warp, another for each item, adds them up and runs the epilogue while the
// others go on.
//
// With `split` blocks per row tile each takes a range of columns, leaves its
// sums in the workspace, and the last of them to arrive adds these up.
//
// The order of every sum follows from columns, warps and split alone: neither
// the token count nor the grid changes a bit.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATVEC_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATVEC_CUH

#include "compiler/device/cuda/matvec_input.cuh"
#include "compiler/device/cuda/unit.cuh"

namespace lathe {

/// Weights of one shape and format that are multiplied together: one, or gate
/// and up. `epilogue(t, row, y0[, y1])` gets the finished sums.
template <CudaFormat kFormat, int kGrain, bool kAsymmetric, int kRows_,
          int kPairs, class Epilogue>
struct Segment {
  static constexpr CudaPacking kPacking{kFormat, kGrain, kAsymmetric};
  static constexpr int kRows = kRows_, kWeights = kPairs;
  static constexpr int kTiles = (kRows + 15) / 16;

  const char *weights[kPairs];
  Epilogue epilogue;
};
template <CudaFormat kFormat, int kGrain, bool kAsymmetric, int kRows,
          class Epilogue>
LATHE_DEVICE auto segment(const void *weights, Epilogue epilogue) {
  return Segment<kFormat, kGrain, kAsymmetric, kRows, 1, Epilogue>{
      {(const char *)weights}, epilogue};
}
template <CudaFormat kFormat, int kGrain, bool kAsymmetric, int kRows,
          class Epilogue>
LATHE_DEVICE auto segment(const void *gate, const void *up, Epilogue epilogue) {
  return Segment<kFormat, kGrain, kAsymmetric, kRows, 2, Epilogue>{
      {(const char *)gate, (const char *)up}, epilogue};
}

/// The segments of a kernel behind each other: an item is a row tile.
template <class... Segments> struct SegmentList;
template <> struct SegmentList<> {
  static constexpr int kTiles = 0;
};
template <class First, class... Rest> struct SegmentList<First, Rest...> {
  static constexpr int kTiles = First::kTiles + SegmentList<Rest...>::kTiles;
  First first;
  SegmentList<Rest...> rest;

  /// Calls visit(segment, tile in it) for the segment that holds `tile`.
  template <class Visit>
  LATHE_DEVICE_MEMBER void visit(int tile, Visit visit) const {
    if constexpr (sizeof...(Rest) == 0)
      visit(first, tile);
    else if (tile < First::kTiles)
      visit(first, tile);
    else
      rest.visit(tile - First::kTiles, visit);
  }
};
template <class... Segments> LATHE_DEVICE auto segments(Segments... all) {
  if constexpr (sizeof...(all) == 0)
    return SegmentList<>{};
  else
    return [](auto first, auto... rest) {
      return SegmentList<decltype(first), decltype(rest)...>{first,
                                                             segments(rest...)};
    }(all...);
}

/// One block's part of a matvec. kShape is what the emitter sized the launch
/// with.
template <MatvecShape kShape, class List> class Matvec {
  static constexpr int kTokens = kShape.tokens, kWarps = kShape.warps;
  static constexpr int kStages = kShape.stages, kPairs = kShape.pairs;
  using Sums = TileSums<kTokens>;

public:
  LATHE_DEVICE_MEMBER Matvec(const LatheLaunch &ctx, const List &list)
      : ctx(ctx), list(list), shared(sharedMemory()),
        barriers((Barrier *)(shared + kShape.barriersAt())), warpId(warp()),
        split(blockX() % kShape.split), firstTile(blockX() / kShape.split),
        tileStep(gridX() / kShape.split) {}

  char *activations() const { return shared + kShape.activationsAt(); }
  float *scales() const { return (float *)(shared + kShape.scalesAt()); }
  /// Room for a float per warp and token.
  float *partialScales() const { return scales() + kShape.scales * kTokens; }
  int splitIndex() const { return split; }

  /// Prepares the barriers and starts the rings. Touches weights only.
  LATHE_DEVICE_MEMBER void start() {
    if (threadX() == 0) {
      for (int i = 0; i < kWarps * kStages; ++i)
        barrierInit(barriers + i, 1);
      for (int i = 0; i < 2; ++i) {
        barrierInit(fullBarrier(i), kWarps);
        barrierInit(emptyBarrier(i), 1);
      }
      barrierInitFence();
    }
    syncThreads();
    produceTile = firstTile;
    produceUnit = warpId;
    skipEmptyItems(produceTile, produceUnit);
    for (int i = 0; i < kStages; ++i)
      produce(i);
  }

  /// Works through the block's items; the activations are in place.
  LATHE_DEVICE_MEMBER void run() {
    OperandX<kTokens> x(activations());
    int item = 0, stage = 0, unit = warpId;
    u32 phase = 0;
    for (int tile = firstTile; tile < List::kTiles; tile += tileStep, ++item) {
      list.visit(tile, [&]<class S>(const S &segment, int inSegment) {
        const int units = unitsOf(segment);
        for (int w = 0; w < S::kWeights; ++w) {
          // Sums are told apart by their first unit: see addUp().
          const int slot = unit;
          Sums sums;
          sums.clear();
          for (; unit < units; unit += kWarps) {
            barrierWait(barriers + warpId * kStages + stage, phase);
            multiplyUnit<S::kPacking>(sums, ring(stage), x,
                                      unit * (S::kPacking.unitColumns() / 32));
            syncWarp();
            produce(stage);
            if (++stage == kStages)
              stage = 0, phase ^= 1;
          }
          unit -= units;
          if (w == 0 && item >= 2)
            barrierWait(emptyBarrier(item & 1), (item / 2 - 1) & 1);
          if (slot < units)
            leave(sums, partial(item & 1, w, slot));
        }
        syncWarp();
        if (lane() == 0)
          barrierArrive(fullBarrier(item & 1));
        if (warpId == item % kWarps)
          finish(segment, inSegment, tile, item);
      });
    }
  }

private:
  LATHE_DEVICE_MEMBER Barrier *fullBarrier(int i) const {
    return barriers + kWarps * kStages + i;
  }
  LATHE_DEVICE_MEMBER Barrier *emptyBarrier(int i) const {
    return barriers + kWarps * kStages + 2 + i;
  }
  LATHE_DEVICE_MEMBER char *ring(int stage) const {
    return shared + (warpId * kStages + stage) * kShape.unitBytes;
  }
  /// [buffer][weight][slot][token][row]
  LATHE_DEVICE_MEMBER float *partial(int buffer, int weight, int slot) const {
    return (float *)(shared + kShape.partialsAt()) +
           ((buffer * kPairs + weight) * kWarps + slot) * kTokens * 16;
  }

  /// Units of one row tile in this block's columns.
  template <class S> LATHE_DEVICE_MEMBER int unitsOf(const S &) const {
    constexpr int kAll = S::kPacking.units(kShape.columns);
    constexpr int kEach = kShape.splitColumns() / S::kPacking.unitColumns();
    if constexpr (kShape.split == 1)
      return kAll;
    int left = kAll - split * kEach;
    return left < kEach ? (left > 0 ? left : 0) : kEach;
  }

  /// Moves a cursor whose unit lies behind its item on to where it belongs.
  LATHE_DEVICE_MEMBER void skipEmptyItems(int &tile, int &unit) const {
    while (tile < List::kTiles) {
      int units = 0;
      list.visit(tile, [&]<class S>(const S &segment, int) {
        units = unitsOf(segment) * S::kWeights;
      });
      if (unit < units)
        return;
      unit -= units;
      tile += tileStep;
    }
  }

  /// Starts the copy of the warp's next unit into a free stage.
  LATHE_DEVICE_MEMBER void produce(int stage) {
    if (produceTile >= List::kTiles)
      return;
    if (lane() == 0)
      list.visit(produceTile, [&]<class S>(const S &segment, int tile) {
        constexpr CudaPacking packing = S::kPacking;
        constexpr int kEach = kShape.splitColumns() / packing.unitColumns();
        const int units = unitsOf(segment);
        const int second = produceUnit >= units;
        i64 unit = (i64)tile * packing.units(kShape.columns) + split * kEach +
                   produceUnit - second * units;
        // No indexing by a value: that would put the array into memory.
        const char *from = segment.weights[0];
        if constexpr (S::kWeights == 2)
          from = second ? segment.weights[1] : from;
        Barrier *barrier = barriers + warpId * kStages + stage;
        barrierExpect(barrier, packing.unitBytes());
        copyBulk(ring(stage),
                 from + kCudaWeightHeader + unit * packing.unitBytes(),
                 packing.unitBytes(), barrier);
      });
    produceUnit += kWarps;
    skipEmptyItems(produceTile, produceUnit);
  }

  LATHE_DEVICE_MEMBER void leave(Sums &sums, float *to) const {
    sums.joinParts();
    int g = lane() / 4, q = lane() % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      int t = 2 * q + (i & 1);
      if (t < kTokens)
        to[t * 16 + g + 8 * (i >> 1)] = sums.d[0][i];
    }
  }

  /// The sum of element e = t * 16 + row over the warps, in the order of their
  /// first units.
  LATHE_DEVICE_MEMBER float addUp(int buffer, int weight, int units,
                                  int e) const {
    const float *from = partial(buffer, weight, 0) + e;
    float sum = 0.0f;
    for (int s = 0; s < (units < kWarps ? units : kWarps); ++s)
      sum += from[s * kTokens * 16];
    return sum;
  }

  template <class S>
  LATHE_DEVICE_MEMBER void finish(const S &segment, int tile, int allTile,
                                  int item) const {
    const int buffer = item & 1, units = unitsOf(segment);
    barrierWait(fullBarrier(buffer), (item / 2) & 1);
    if constexpr (kShape.split == 1) {
      forEach([&](int e) {
        float y[S::kWeights];
        for (int w = 0; w < S::kWeights; ++w)
          y[w] = addUp(buffer, w, units, e);
        apply(segment, tile, e, y);
      });
    } else {
      float *mine = workspace(allTile, split);
      forEach([&](int e) {
        for (int w = 0; w < S::kWeights; ++w)
          mine[w * kTokens * 16 + e] = addUp(buffer, w, units, e);
      });
      combine(segment, tile, allTile);
    }
    syncWarp();
    if (lane() == 0)
      barrierArrive(emptyBarrier(buffer));
  }

  LATHE_DEVICE_MEMBER float *workspace(int tile, int part) const {
    return (float *)ctx.scratch +
           (i64)(tile * kShape.split + part) * kPairs * kTokens * 16;
  }

  /// The last block of a row tile adds the parts up in their order.
  template <class S>
  LATHE_DEVICE_MEMBER void combine(const S &segment, int tile,
                                   int allTile) const {
    fenceDevice();
    syncWarp();
    u32 before = 0;
    if (lane() == 0)
      before = atomicAddDevice(ctx.counters + allTile, 1);
    if (shuffle(before, 0) != kShape.split - 1)
      return;
    fenceDevice();
    forEach([&](int e) {
      float y[S::kWeights];
      for (int w = 0; w < S::kWeights; ++w) {
        y[w] = 0.0f;
        for (int s = 0; s < kShape.split; ++s)
          y[w] += loadFresh(workspace(allTile, s) + w * kTokens * 16 + e);
      }
      apply(segment, tile, e, y);
    });
    if (lane() == 0)
      ctx.counters[allTile] = 0;
  }

  template <class F> LATHE_DEVICE_MEMBER void forEach(F f) const {
    for (int e = lane(); e < kTokens * 16; e += 32)
      f(e);
  }

  template <class S>
  LATHE_DEVICE_MEMBER void apply(const S &segment, int tile, int e,
                                 float (&y)[S::kWeights]) const {
    const int t = e / 16, row = tile * 16 + e % 16;
    if (row >= S::kRows)
      return;
    for (int w = 0; w < S::kWeights; ++w)
      y[w] *= outputScale<S::kPacking>() * *(const float *)segment.weights[w];
    if constexpr (S::kWeights == 2)
      segment.epilogue(t, row, y[0], y[1]);
    else
      segment.epilogue(t, row, y[0]);
  }

  const LatheLaunch &ctx;
  const List &list;
  char *const shared;
  Barrier *const barriers;
  const int warpId;
  const int split;               ///< which range of columns
  const int firstTile, tileStep; ///< the items of this block
  int produceTile = 0, produceUnit = 0;
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATVEC_CUH
