//===- matvec_segments.cuh - the weights of a matvec -----------*- CUDA -*-===//
//
// A matvec kernel has one or more segments: weights that read the same x, each
// with its own epilogue. Row tiles of all segments, heavy ones unit by unit,
// are its items.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATVEC_SEGMENTS_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATVEC_SEGMENTS_CUH

#include "compiler/device/cuda/linear_sizes.h"
#include "compiler/device/cuda/prelude.cuh"

namespace lathe {

/// What epilogues want to store. Their loads cannot be moved before a store,
/// and waiting for memory one by one would cost as much as the products.
template <int kMost> struct LaterStores {
  float *to[kMost];
  float value[kMost];
  int count = 0;

  LATHE_DEVICE_MEMBER void operator()(float *p, float x) {
    to[count] = p, value[count++] = x;
  }
};

/// Weights of one shape and format that are multiplied together: one, or gate
/// and up. `epilogue(t, row, y0[, y1], store)` gets the finished sums and calls
/// store(float *, float) kOutputs times.
template <CudaFormat kFormat, int kGrain, bool kAsymmetric, int kRows_,
          int kOutputs_, int kPairs, class Epilogue>
struct Segment {
  static constexpr CudaPacking kPacking{kFormat, kGrain, kAsymmetric};
  static constexpr int kRows = kRows_, kOutputs = kOutputs_, kWeights = kPairs;
  static constexpr int kTiles = (kRows + 15) / 16;

  const char *weights[kPairs];
  Epilogue epilogue;
};
template <CudaFormat kFormat, int kGrain, bool kAsymmetric, int kRows,
          int kOutputs, class Epilogue>
LATHE_DEVICE auto segment(const void *weights, Epilogue epilogue) {
  return Segment<kFormat, kGrain, kAsymmetric, kRows, kOutputs, 1, Epilogue>{
      {(const char *)weights}, epilogue};
}
template <CudaFormat kFormat, int kGrain, bool kAsymmetric, int kRows,
          int kOutputs, class Epilogue>
LATHE_DEVICE auto segment(const void *gate, const void *up, Epilogue epilogue) {
  return Segment<kFormat, kGrain, kAsymmetric, kRows, kOutputs, 2, Epilogue>{
      {(const char *)gate, (const char *)up}, epilogue};
}

/// The segments of a kernel behind each other. kLightest: bytes of the lightest
/// row tile of the whole kernel.
template <int kColumns, int kLightest, class... Segments> struct SegmentList;
template <int kColumns, int kLightest> struct SegmentList<kColumns, kLightest> {
  static constexpr int kItems = 0, kMostUnits = 0;
};
template <int kColumns, int kLightest, class First, class... Rest>
struct SegmentList<kColumns, kLightest, First, Rest...> {
  using Tail = SegmentList<kColumns, kLightest, Rest...>;
  static constexpr int kParts = matvecParts(
      First::kPacking,
      matvecTileBytes(First::kPacking, kColumns, First::kWeights), kLightest);
  static constexpr int kOwn = First::kTiles * kParts;
  static constexpr int kItems = kOwn + Tail::kItems;
  /// Most units that a warp reads for an item.
  static constexpr int kUnits =
      First::kWeights *
      (kParts > 1 ? 1 : kMatvecSlice / First::kPacking.unitColumns());
  static constexpr int kMostUnits =
      kUnits > Tail::kMostUnits ? kUnits : Tail::kMostUnits;
  /// So many of the first items may be cut into quarters.
  static constexpr int kCuttable = kParts == 1 ? kOwn : 0;
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
/// All segments of a kernel and the norm of x (matvec_norm.cuh).
template <class Norm_, class List> struct NormedSegments : List {
  using Norm = Norm_;
  Norm norm;
};
template <int kColumns, class Norm, class... Segments>
LATHE_DEVICE auto segments(Norm norm, Segments... all) {
  constexpr int kLightest = smallest(
      matvecTileBytes(Segments::kPacking, kColumns, Segments::kWeights)...);
  auto list = makeSegments<kColumns, kLightest>(all...);
  return NormedSegments<Norm, decltype(list)>{list, norm};
}

/// An item, or some quarters of its columns.
struct Piece {
  int item;
  int quarter;  ///< the first
  int quarters; ///< how many: 1, 2 or all 4
};

/// What one of `workers` groups of warps does: the items that are left over
/// when all have had the same number come first, cut into pieces for as many
/// groups as there are, then every workers-th of the rest.
class PieceList {
public:
  /// `cuttable`: so many of the first of `items` may be cut.
  LATHE_DEVICE_MEMBER PieceList(int items, int cuttable, int worker,
                                int workers)
      : worker(worker), workers(workers), rounds(items / workers),
        rest(items - rounds * workers) {
    if (rest <= cuttable)
      parts = 4 * rest <= workers ? 4 : 2 * rest <= workers ? 2 : 1;
    extra = worker < rest * parts;
  }
  /// None for a worker beyond: a grid may have blocks that `split` leaves over.
  LATHE_DEVICE_MEMBER int count() const {
    return worker < workers ? rounds + extra : 0;
  }
  /// No worker has more.
  LATHE_DEVICE_MEMBER int most() const { return rounds + (rest > 0); }
  LATHE_DEVICE_MEMBER Piece at(int turn) const {
    if (turn < extra) {
      const int each = kMatvecQuarters / parts;
      return {worker / parts, worker % parts * each, each};
    }
    return {rest + worker + (turn - extra) * workers, 0, kMatvecQuarters};
  }

private:
  int worker, workers, rounds, rest;
  int parts = 1; ///< pieces per item that is left over
  int extra;     ///< 1: has one of them
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATVEC_SEGMENTS_CUH
