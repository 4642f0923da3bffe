//===- matvec.cuh - a fused matrix times few vectors -----------*- CUDA -*-===//
//
// y = W x for one to eight tokens, bound by the stream of W. A block takes
// items (matvec_segments.cuh), `split` blocks together when each has a range of
// columns only. Every warp of a group has a slice of the columns, whose
// activations it keeps in registers, and multiplies it with item after item.
//
// A warp streams its units (weights.cuh) through a ring of its own, which runs
// on from item to item and starts before the activations are there, since
// weights depend on nobody. Per item it leaves its sums in a buffer; a few
// warps that do nothing else add them up and run the epilogue
// (matvec_finish.cuh).
//
// The order of every sum follows from columns, warps and split alone: neither
// the token count nor the grid changes a bit.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATVEC_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATVEC_CUH

#include "compiler/device/cuda/matvec_finish.cuh"
#include "compiler/device/cuda/unit.cuh"
#include "compiler/device/cuda/unit_ring.cuh"

namespace lathe {

/// One block's part of a matvec. kShape is what the emitter sized the launch
/// with. `place` says which part, and where its shared memory is.
template <MatvecShape kShape, class List> class Matvec {
  static constexpr int kTokens = kShape.tokens;
  using Sums = TileSums<kTokens>;

public:
  using Ring = UnitRing<kShape.stages, kShape.unitBytes>;
  using Team = WarpTeam<kShape.workers(), 1>;

  LATHE_DEVICE_MEMBER Matvec(const LatheLaunch &ctx, const List &list,
                             MatvecPlace place)
      : ctx(ctx), list(list), place(place), warpId(warp()),
        slice(warpId % kShape.slices()), split(place.block % kShape.split),
        pieces(List::kItems, List::kCuttable,
               place.block / kShape.split * kShape.groups() +
                   warpId / kShape.slices(),
               place.blocks / kShape.split * kShape.groups()) {}

  /// Whether this warp multiplies; the others finish().
  LATHE_DEVICE_MEMBER bool works() const { return warpId < kShape.workers(); }
  LATHE_DEVICE_MEMBER int firstColumn() const {
    return split * kShape.splitColumns();
  }
  LATHE_DEVICE_MEMBER float *scales() const {
    return (float *)(place.shared + kShape.scalesAt());
  }
  /// Room for a float per worker and token.
  LATHE_DEVICE_MEMBER float *partialScales() const {
    return scales() + kShape.scales * kTokens;
  }

  /// For a launch of its own: prepares the barriers and starts the rings.
  LATHE_DEVICE_MEMBER Ring prepare() {
    Barrier *const barriers = (Barrier *)(place.shared + kShape.barriersAt());
    constexpr int kRings = kShape.workers() * kShape.stages;
    for (int i = threadX(); i < kRings; i += kShape.threads())
      barrierInit(barriers + i, 1);
    buffers().prepare();
    barrierInitFence();
    syncThreads();
    const int worker = works() ? warpId : 0;
    Ring ring(place.shared + kShape.ringAt() +
                  worker * kShape.stages * kShape.unitBytes,
              barriers + worker * kShape.stages);
    if (works())
      fill(ring);
    return ring;
  }
  /// Starts as many of the warp's units as the ring has room for.
  LATHE_DEVICE_MEMBER void fill(Ring &ring) {
    while (ring.hasRoom() && produce(ring)) {
    }
  }

  /// The warp's activations: f as in MatvecInput::fill.
  template <class F> LATHE_DEVICE_MEMBER SliceX<kTokens> input(F f) const {
    SliceX<kTokens> x;
    MatvecInput<kShape>(place.shared + kShape.inputAt(), firstColumn(), warpId,
                        slice)
        .fill(x, f);
    return x;
  }

  /// Works through the warp's units; the ring has been filled.
  LATHE_DEVICE_MEMBER void multiply(Ring &ring, const SliceX<kTokens> &x) {
    for (int turn = 0; turn < pieces.count(); ++turn) {
      const Piece piece = pieces.at(turn);
      const Buffers buffer = buffers().of(turn, warpId / kShape.slices());
      list.visit(piece.item, [&]<int kParts, class S>(const S &, int own) {
        for (int w = 0; w < S::kWeights; ++w) {
          Sums sums;
          sums.clear();
          if (holds(piece))
            multiplyItem<kParts, S>(sums, ring, x, own % kParts);
          if (w == 0)
            buffer.waitEmpty();
          leave(sums, buffer.partial(w, slice));
        }
        buffer.arriveFull();
      });
    }
  }

  /// Adds up and finishes what the workers leave.
  LATHE_DEVICE_MEMBER void finish() const {
    MatvecFinish<kShape, List>(ctx, list, place, buffers())
        .finishItems(warpId - kShape.workers());
  }

private:
  using Buffers = MatvecBuffers<kShape>;

  LATHE_DEVICE_MEMBER Buffers buffers() const {
    return Buffers(place.shared + kShape.partialsAt(),
                   (Barrier *)(place.shared + kShape.barriersAt()) +
                       kShape.workers() * kShape.stages);
  }

  /// Whether the warp's slice belongs to `piece`.
  LATHE_DEVICE_MEMBER bool holds(const Piece &piece) const {
    return slice >= matvecQuarter<kShape>(piece.quarter) &&
           slice < matvecQuarter<kShape>(piece.quarter + piece.quarters);
  }
  /// The first unit of the slice in a row tile of S, and how many there are.
  template <class S> LATHE_DEVICE_MEMBER int firstUnit() const {
    return (split * kShape.slices() + slice) *
           (kMatvecSlice / S::kPacking.unitColumns());
  }
  template <class S> LATHE_DEVICE_MEMBER int unitCount() const {
    constexpr int kEach = kMatvecSlice / S::kPacking.unitColumns();
    constexpr int kAll = S::kPacking.units(kShape.columns);
    if constexpr (kAll == kShape.split * kShape.slices() * kEach)
      return kEach;
    const int left = kAll - firstUnit<S>();
    return left < kEach ? (left > 0 ? left : 0) : kEach;
  }
  /// Units of the warp in one weight of an item, `part` of kParts.
  template <int kParts, class S>
  LATHE_DEVICE_MEMBER int unitsIn(const Piece &piece, int part) const {
    if (!holds(piece))
      return 0;
    return kParts == 1 ? unitCount<S>() : part < unitCount<S>();
  }

  template <int kParts, class S>
  LATHE_DEVICE_MEMBER void multiplyItem(Sums &sums, Ring &ring,
                                        const SliceX<kTokens> &x, int part) {
    constexpr int kEach = kMatvecSlice / S::kPacking.unitColumns();
    const int count = unitCount<S>();
    eachOf<kEach>([&]<int kUnit>() {
      if (kUnit >= count || (kParts > 1 && kUnit != part))
        return;
      multiplyUnit<S::kPacking, kUnit>(sums, ring.wait(), x);
      ring.release();
      produce(ring);
    });
  }
  template <int kCount, int kFirst = 0, class F>
  LATHE_DEVICE_MEMBER static void eachOf(F f) {
    f.template operator()<kFirst>();
    if constexpr (kFirst + 1 < kCount)
      eachOf<kCount, kFirst + 1>(f);
  }

  /// Starts the copy of the warp's next unit; false if there is none.
  LATHE_DEVICE_MEMBER bool produce(Ring &ring) {
    for (; produceTurn < pieces.count(); ++produceTurn, produceUnit = 0) {
      const Piece piece = pieces.at(produceTurn);
      bool done = false;
      list.visit(piece.item, [&]<int kParts, class S>(const S &segment,
                                                      int own) {
        const int count = unitsIn<kParts, S>(piece, own % kParts);
        if (produceUnit >= count * S::kWeights)
          return;
        const int second = produceUnit >= count;
        const i64 unit =
            (i64)(own / kParts) * S::kPacking.units(kShape.columns) +
            firstUnit<S>() + own % kParts + produceUnit - second * count;
        // No indexing by a value: that would put the array into memory.
        const char *from = segment.weights[0];
        if constexpr (S::kWeights == 2)
          from = second ? segment.weights[1] : from;
        ring.start(from + kCudaWeightHeader + unit * S::kPacking.unitBytes(),
                   S::kPacking.unitBytes());
        ++produceUnit;
        done = true;
      });
      if (done)
        return true;
    }
    return false;
  }

  LATHE_DEVICE_MEMBER void leave(Sums &sums, float *to) const {
    sums.joinParts();
    const int g = lane() / 4, q = lane() % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int t = 2 * q + (i & 1);
      if (t < kTokens && (kTokens > 1 || i % 2 == 0))
        to[t * 16 + g + 8 * (i >> 1)] = sums.d[0][i];
    }
  }

  const LatheLaunch &ctx;
  const List &list;
  const MatvecPlace place;
  const int warpId, slice;
  const int split; ///< which range of columns
  const PieceList pieces;
  int produceTurn = 0, produceUnit = 0;
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATVEC_CUH
