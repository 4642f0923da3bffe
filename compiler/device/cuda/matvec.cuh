//===- matvec.cuh - a fused matrix times few vectors -----------*- CUDA -*-===//
//
// y = W x for one to eight tokens, bound by the stream of W. A kernel has one
// or more segments: weights that read the same x, each with its own epilogue.
// Row tiles of all segments, heavy ones in parts of their columns, are items;
// block b takes items b, b + grid, ...
//
// A block's units (weights.cuh), item after item, go to its warps in turn, so
// all warps stay busy whatever the shape. Each warp streams its units through a
// ring of its own in shared memory, filled by the copy engine; the ring runs on
// from item to item and starts before the previous launch has finished, since
// weights depend on nobody. Per item a warp leaves its sums in a buffer; a few
// warps that do nothing else add them up and run the epilogue.
//
// With `split` blocks per item each takes a range of columns. They, and the
// parts of a row tile, leave their sums in the workspace, and the last of them
// to arrive adds these up.
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

/// The segments of a kernel behind each other. kLightest: bytes of the lightest
/// row tile of the whole kernel.
template <int kColumns, int kLightest, class... Segments> struct SegmentList;
template <int kColumns, int kLightest> struct SegmentList<kColumns, kLightest> {
  static constexpr int kItems = 0;
};
template <int kColumns, int kLightest, class First, class... Rest>
struct SegmentList<kColumns, kLightest, First, Rest...> {
  using Tail = SegmentList<kColumns, kLightest, Rest...>;
  static constexpr int kParts = matvecParts(
      matvecTileBytes(First::kPacking, kColumns, First::kWeights), kLightest);
  static constexpr int kOwn = First::kTiles * kParts;
  static constexpr int kItems = kOwn + Tail::kItems;
  First first;
  Tail rest;

  /// Calls visit.template operator()<parts>(segment, item in it) for the
  /// segment that holds `item`.
  template <class Visit>
  LATHE_DEVICE_MEMBER void visit(int item, Visit visit) const {
    if constexpr (sizeof...(Rest) == 0)
      visit.template operator()<kParts>(first, item);
    else if (item < kOwn)
      visit.template operator()<kParts>(first, item);
    else
      rest.visit(item - kOwn, visit);
  }
};
template <int kColumns, int kLightest> LATHE_DEVICE auto makeSegments() {
  return SegmentList<kColumns, kLightest>{};
}
template <int kColumns, int kLightest, class First, class... Rest>
LATHE_DEVICE auto makeSegments(First first, Rest... rest) {
  return SegmentList<kColumns, kLightest, First, Rest...>{
      first, makeSegments<kColumns, kLightest>(rest...)};
}
constexpr int smallest(int a) { return a; }
template <class... Rest> constexpr int smallest(int a, int b, Rest... rest) {
  return smallest(a < b ? a : b, rest...);
}
template <int kColumns, class... Segments>
LATHE_DEVICE auto segments(Segments... all) {
  constexpr int kLightest = smallest(
      matvecTileBytes(Segments::kPacking, kColumns, Segments::kWeights)...);
  return makeSegments<kColumns, kLightest>(all...);
}

/// One block's part of a matvec. kShape is what the emitter sized the launch
/// with.
template <MatvecShape kShape, class List> class Matvec {
  static constexpr int kTokens = kShape.tokens, kWarps = kShape.warps;
  static constexpr int kStages = kShape.stages, kPairs = kShape.pairs;
  static constexpr int kBuffers = kShape.buffers();
  using Sums = TileSums<kTokens>;

public:
  LATHE_DEVICE_MEMBER Matvec(const LatheLaunch &ctx, const List &list)
      : ctx(ctx), list(list), shared(sharedMemory()),
        barriers((Barrier *)(shared + kShape.barriersAt())), warpId(warp()),
        split(blockX() % kShape.split), firstItem(blockX() / kShape.split),
        itemStep(gridX() / kShape.split) {}

  char *activations() const { return shared + kShape.activationsAt(); }
  float *scales() const { return (float *)(shared + kShape.scalesAt()); }
  /// Room for a float per warp and token.
  float *partialScales() const { return scales() + kShape.scales * kTokens; }
  int splitIndex() const { return split; }

  /// Prepares the barriers and starts the rings. Touches weights only.
  LATHE_DEVICE_MEMBER void start() {
    for (int i = threadX(); i < kShape.barrierCount(); i += kShape.threads()) {
      const int buffer = i - kWarps * kStages;
      // All lanes of a warp arrive at the barriers of the buffers.
      barrierInit(barriers + i, buffer < 0          ? 1
                                : buffer < kBuffers ? 32 * kWarps
                                                    : 32);
      barrierInitFence();
    }
    syncThreads();
    produceItem = warpId < kWarps ? firstItem : List::kItems;
    produceUnit = warpId;
    skipEmptyItems(produceItem, produceUnit);
    for (int i = 0; i < kStages; ++i)
      produce(i);
  }

  /// Works through the block's items; the activations are in place.
  LATHE_DEVICE_MEMBER void run() {
    if (warpId < kWarps)
      multiplyItems();
    else if (warpId < kWarps + kShape.finishers())
      finishItems();
  }

private:
  /// No more finishers than buffers: the parity of a barrier tells two phases
  /// apart, and whoever comes to a buffer must know that the use before the
  /// last is over.
  LATHE_DEVICE_MEMBER void finishItems() const {
    constexpr int kFinishers = kShape.finishers();
    int turn = warpId - kWarps;
    for (int item = firstItem + turn * itemStep; item < List::kItems;
         item += kFinishers * itemStep, turn += kFinishers)
      list.visit(item, [&]<int kParts, class S>(const S &segment, int own) {
        finish<kParts>(segment, own, item, turn,
                       unitsOf<kParts, S>(own % kParts).count);
      });
  }

  LATHE_DEVICE_MEMBER void multiplyItems() {
    OperandX<kTokens> x(activations());
    int turn = 0, stage = 0, unit = warpId;
    u32 phase = 0;
    for (int item = firstItem; item < List::kItems; item += itemStep, ++turn) {
      list.visit(item, [&]<int kParts, class S>(const S &segment, int own) {
        const Range range = unitsOf<kParts, S>(own % kParts);
        for (int w = 0; w < S::kWeights; ++w) {
          // Sums are told apart by their first unit: see addUp().
          const int slot = unit;
          Sums sums;
          sums.clear();
          for (; unit < range.count; unit += kWarps) {
            barrierWait(barriers + warpId * kStages + stage, phase);
            multiplyUnit<S::kPacking>(sums, ring(stage), x,
                                      (range.begin + unit) *
                                          (S::kPacking.unitColumns() / 32));
            syncWarp();
            produce(stage);
            if (++stage == kStages)
              stage = 0, phase ^= 1;
          }
          unit -= range.count;
          if (w == 0 && turn >= kBuffers)
            barrierWait(emptyBarrier(turn % kBuffers),
                        (turn / kBuffers - 1) & 1);
          if (slot < range.count)
            leave(sums, partial(turn % kBuffers, w, slot));
        }
        barrierArrive(fullBarrier(turn % kBuffers));
      });
    }
  }

  LATHE_DEVICE_MEMBER Barrier *fullBarrier(int i) const {
    return barriers + kWarps * kStages + i;
  }
  LATHE_DEVICE_MEMBER Barrier *emptyBarrier(int i) const {
    return barriers + kWarps * kStages + kBuffers + i;
  }
  LATHE_DEVICE_MEMBER char *ring(int stage) const {
    return shared + (warpId * kStages + stage) * kShape.unitBytes;
  }
  /// [buffer][weight][slot][token][row]
  LATHE_DEVICE_MEMBER float *partial(int buffer, int weight, int slot) const {
    return (float *)(shared + kShape.partialsAt()) +
           ((buffer * kPairs + weight) * kWarps + slot) * kTokens * 16;
  }

  /// Units from the first column of this block.
  struct Range {
    int begin, count;
  };
  /// Those of part `part` of a row tile.
  template <int kParts, class S>
  LATHE_DEVICE_MEMBER Range unitsOf(int part) const {
    constexpr int kAll = S::kPacking.units(kShape.columns);
    constexpr int kSplit = kShape.splitColumns() / S::kPacking.unitColumns();
    constexpr int kMost = kShape.split == 1 ? kAll : kSplit;
    constexpr int kEach = (kMost + kParts - 1) / kParts;
    if constexpr (kShape.split == 1 && kParts == 1)
      return {0, kAll};
    const int begin = part * kEach;
    int here = kAll - split * kSplit; // units of the block
    here = here < kMost ? here : kMost;
    const int left = here - begin;
    return {begin, left < kEach ? (left > 0 ? left : 0) : kEach};
  }

  /// Moves a cursor whose unit lies behind its item on to where it belongs.
  LATHE_DEVICE_MEMBER void skipEmptyItems(int &item, int &unit) const {
    while (item < List::kItems) {
      int units = 0;
      list.visit(item, [&]<int kParts, class S>(const S &, int own) {
        units = unitsOf<kParts, S>(own % kParts).count * S::kWeights;
      });
      if (unit < units)
        return;
      unit -= units;
      item += itemStep;
    }
  }

  /// Starts the copy of the warp's next unit into a free stage.
  LATHE_DEVICE_MEMBER void produce(int stage) {
    if (produceItem >= List::kItems)
      return;
    if (lane() == 0)
      list.visit(
          produceItem, [&]<int kParts, class S>(const S &segment, int own) {
            constexpr CudaPacking packing = S::kPacking;
            const Range range = unitsOf<kParts, S>(own % kParts);
            const int second = produceUnit >= range.count;
            i64 unit = (i64)(own / kParts) * packing.units(kShape.columns) +
                       split * (kShape.splitColumns() / packing.unitColumns()) +
                       range.begin + produceUnit - second * range.count;
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
    skipEmptyItems(produceItem, produceUnit);
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

  template <int kParts, class S>
  LATHE_DEVICE_MEMBER void finish(const S &segment, int own, int item, int turn,
                                  int units) const {
    const int buffer = turn % kBuffers;
    barrierWait(fullBarrier(buffer), (turn / kBuffers) & 1);
    if constexpr (kShape.split * kParts == 1) {
      forEach([&](int e) {
        float y[S::kWeights];
        for (int w = 0; w < S::kWeights; ++w)
          y[w] = addUp(buffer, w, units, e);
        apply(segment, own, e, y);
      });
    } else {
      float *mine = workspace(item, split);
      forEach([&](int e) {
        for (int w = 0; w < S::kWeights; ++w)
          mine[w * kTokens * 16 + e] = addUp(buffer, w, units, e);
      });
      combine<kParts>(segment, own / kParts, item - own % kParts);
    }
    barrierArrive(emptyBarrier(buffer));
  }

  LATHE_DEVICE_MEMBER float *workspace(int item, int split) const {
    return (float *)ctx.scratch +
           (i64)(item * kShape.split + split) * kPairs * kTokens * 16;
  }

  /// The last to arrive of a row tile, whose first item is `first`, adds
  /// everything up in the order of columns.
  template <int kParts, class S>
  LATHE_DEVICE_MEMBER void combine(const S &segment, int tile,
                                   int first) const {
    fenceDevice();
    syncWarp();
    u32 before = 0;
    if (lane() == 0)
      before = atomicAddDevice(ctx.counters + first, 1);
    if (shuffle(before, 0) != kShape.split * kParts - 1)
      return;
    fenceDevice();
    forEach([&](int e) {
      float y[S::kWeights];
      for (int w = 0; w < S::kWeights; ++w) {
        y[w] = 0.0f;
#pragma unroll
        for (int s = 0; s < kShape.split * kParts; ++s)
          y[w] += loadFresh(workspace(first + s % kParts, s / kParts) +
                            w * kTokens * 16 + e);
      }
      apply(segment, tile, e, y);
    });
    if (lane() == 0)
      ctx.counters[first] = 0;
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
  const int firstItem, itemStep; ///< the items of this block
  int produceItem = 0, produceUnit = 0;
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATVEC_CUH
