//===- matvec.cuh - a fused matrix times few vectors -----------*- CUDA -*-===//
//
// y = W x for one to eight tokens, bound by the stream of W. A block takes
// items (matvec_segments.cuh), `split` blocks together when each has a range of
// columns only. Every warp of a group has a slice of the columns, whose
// activations it keeps in registers, and multiplies it with item after item.
//
// Its units (weights.cuh) come through a ring (unit_ring.cuh) that one warp of
// the block keeps filled: from item to item, and before the activations are
// there, since weights depend on nobody. Per item a warp leaves its sums in a
// buffer; a few warps that do nothing else add them up and run the epilogue
// (matvec_finish.cuh).
//
// The order of every sum follows from columns, warps and split alone: neither
// the token count nor the grid changes a bit.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATVEC_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATVEC_CUH

#include "compiler/device/cuda/matvec_finish.cuh"
#include "compiler/device/cuda/matvec_readers.cuh"
#include "compiler/device/cuda/unit.cuh"
#include "compiler/device/cuda/unit_ring.cuh"

namespace lathe {

/// The roles of a block's warps: first those that multiply, then those that
/// finish, and, the last of all, the one that fetches.
template <int kWarps, int kFinishers> struct MatvecRoles {
  int warp;
  LATHE_DEVICE_MEMBER bool multiplies() const { return warp < kWarps; }
  LATHE_DEVICE_MEMBER bool finishes() const {
    return warp >= kWarps && warp < kWarps + kFinishers;
  }
  LATHE_DEVICE_MEMBER bool fetches() const {
    return warp == threadCount() / 32 - 1;
  }
};

/// One block's part of a matvec. kShape is what the emitter sized the launch
/// with, Readers who shares its rings. `place` says which part, and where its
/// shared memory is. A block does its part when all warps have called what
/// their roles say.
template <MatvecShape kShape, class List, class Readers> class Matvec {
  static constexpr int kTokens = kShape.tokens;
  static constexpr MatvecOperands kX = kShape.operands();
  using Sums = TileSums<kX>;
  using Buffers = MatvecBuffers<kShape>;

public:
  /// The warps that multiply.
  using Team = WarpTeam<kShape.workers(), 1>;

  LATHE_DEVICE_MEMBER Matvec(const LatheLaunch &ctx, const List &list,
                             MatvecPlace place, int warpId)
      : ctx(ctx), list(list), place(place), warpId(warpId),
        split(place.block % kShape.split),
        buffers(place.shared + kShape.warpsAt(), (Barrier *)place.shared) {}

  /// Whether there is something to multiply for this warp.
  LATHE_DEVICE_MEMBER bool works() const { return warpId < kShape.workers(); }
  LATHE_DEVICE_MEMBER int firstColumn() const {
    return split * kShape.splitColumns();
  }
  LATHE_DEVICE_MEMBER float *scales() const {
    return (float *)(place.shared + kShape.scalesAt());
  }
  /// Room for kShape.partialScales() floats per token, at least the workers'.
  LATHE_DEVICE_MEMBER float *partialScales() const {
    return scales() + kShape.scales * kTokens;
  }

  /// Before the block's warps go their ways, some initialise barriers: this is
  /// number `i` of `warps`. Then comes a barrierInitFence and all meet.
  LATHE_DEVICE_MEMBER void prepare(int i, int warps) const {
    buffers.prepare(i, warps);
    if constexpr (kShape.twins == 2)
      for (int w = lane() * warps + i; w < kShape.workers(); w += 32 * warps)
        barrierInit((Barrier *)(place.shared + kShape.twinBarriersAt()) + w, 1);
  }

  /// Weights that the prologue reads: they were last touched a step ago.
  LATHE_DEVICE_MEMBER void prefetch(const float *data, int count) const {
    for (int i = threadX(); i * 32 < count; i += 32 * kShape.workers())
      prefetchLine(data + i * 32);
  }
  /// The warp's activations: f as in MatvecInput::fill.
  template <class F> LATHE_DEVICE_MEMBER SliceX<kX> input(F f) const {
    SliceX<kX> x;
    MatvecInput<kShape>(place.shared, firstColumn(), warpId)
        .fill(x, list.norm, Team(), partialScales(), f);
    return x;
  }

  /// Works through the warp's units.
  template <class Reader>
  LATHE_DEVICE_MEMBER void multiply(Reader &ring, const SliceX<kX> &x) const {
    const int group = kShape.groupOf(warpId), slice = kShape.sliceOf(warpId),
              first = Readers::first(Readers::of(warpId));
    // With two operands registers are short: the list waits in shared memory.
    const PieceList mine = piecesOf(group);
    const PieceList &pieces = kX.count() == 2 ? keep(mine) : mine;
    for (int turn = 0; turn < pieces.count(); ++turn) {
      const Piece piece = pieces.at(turn);
      const Buffers buffer = buffers.of(turn, group);
      list.visit(piece.item, [&]<int kParts, class S>(const S &, int own) {
        for (int w = 0; w < S::kWeights; ++w) {
          Sums sums;
          sums.clear();
          if (holds(piece, slice))
            multiplyItem<kParts, S>(sums, ring, x, unitCount<S>(first),
                                    unitCount<S>(slice), own % kParts);
          if (w == 0)
            buffer.waitEmpty();
          leave(sums, buffer.partial(w, slice));
        }
        buffer.arriveFull();
      });
    }
  }

  /// Adds up and finishes what the workers leave, as one of `finishers` warps.
  LATHE_DEVICE_MEMBER void finish(int finisher, int finishers) const {
    MatvecFinish<kShape, List>(ctx, list, place, buffers, partialScales())
        .finishItems(finisher, finishers);
  }

  /// Fetches the units of all readers, in the order in which they multiply.
  template <class Writer> LATHE_DEVICE_MEMBER void fetch(Writer &writer) const {
    const bool reads = lane() < Readers::kCount;
    const int reader = reads ? lane() : 0;
    const int first = Readers::first(reader), end = Readers::end(reader);
    const PieceList pieces = piecesOf(Readers::group(reader));
    for (int turn = 0; turn < pieces.most(); ++turn) {
      const bool has = reads && first < end && turn < pieces.count();
      const Units units = unitsOf(pieces.at(has ? turn : 0), first, end);
#pragma unroll 1
      for (int i = 0; i < List::kMostUnits; ++i) {
        const int second = i >= units.count, unit = i - second * units.count;
        const char *from = second ? units.second : units.first;
        writer.put(has && i < units.count * units.weights,
                   {from + unit * units.bytes, units.bytes,
                    unit < units.whole ? units.slices : units.slices - 1,
                    units.stride});
      }
    }
  }

private:
  LATHE_DEVICE_MEMBER PieceList piecesOf(int group) const {
    return matvecPieces<kShape, List>(place, group);
  }

  /// A copy in the part of the warp's staging area that a SliceX leaves alone.
  LATHE_DEVICE_MEMBER const PieceList &keep(const PieceList &pieces) const {
    constexpr int kAt =
        kShape.lowerBytes() + kShape.stagedBytes() + SliceX<kX>::kSumsBytes;
    static_assert(kX.count() == 1 ||
                  kAt + (int)sizeof(PieceList) <= kShape.warpBytes());
    auto *kept = (PieceList *)(place.shared + kShape.warpsAt() +
                               warpId * kShape.warpBytes() + kAt);
    if (lane() == 0)
      *kept = pieces;
    syncWarp();
    return *kept;
  }

  /// Whether `slice` belongs to `piece`.
  LATHE_DEVICE_MEMBER static bool holds(const Piece &piece, int slice) {
    return slice >= kShape.quarter(piece.quarter) &&
           slice < kShape.quarter(piece.quarter + piece.quarters);
  }
  /// The first unit of a slice in a row tile of S, and how many there are.
  template <class S> LATHE_DEVICE_MEMBER int firstUnit(int slice) const {
    return (split * kShape.slices() + slice) *
           (kMatvecSlice / S::kPacking.unitColumns());
  }
  /// Whether every slice is full.
  template <class S> static constexpr bool isExact() {
    return S::kPacking.units(kShape.columns) * S::kPacking.unitColumns() ==
           kShape.split * kShape.slices() * kMatvecSlice;
  }
  template <class S> LATHE_DEVICE_MEMBER int unitCount(int slice) const {
    constexpr int kEach = kMatvecSlice / S::kPacking.unitColumns();
    if constexpr (isExact<S>())
      return kEach;
    const int left = S::kPacking.units(kShape.columns) - firstUnit<S>(slice);
    return left < kEach ? (left > 0 ? left : 0) : kEach;
  }

  /// What a reader reads for a piece: `count` times a unit of each of its
  /// slices from each of its weights; `slices` of them have the first `whole`
  /// units, one less the others.
  struct Units {
    const char *first, *second;
    int count, weights, bytes, stride, slices, whole;
  };
  LATHE_DEVICE_MEMBER Units unitsOf(const Piece &piece, int first,
                                    int end) const {
    Units units;
    list.visit(piece.item, [&]<int kParts, class S>(const S &segment, int own) {
      constexpr int kEach = kMatvecSlice / S::kPacking.unitColumns();
      constexpr int kBytes = S::kPacking.unitBytes();
      const int part = own % kParts, all = unitCount<S>(first);
      const i64 unit = (i64)(own / kParts) * S::kPacking.units(kShape.columns) +
                       firstUnit<S>(first) + part;
      const i64 at = kCudaWeightHeader + unit * kBytes;
      // How many slices there are, and what the last of them has.
      int slices = end - first, last = kEach;
      if constexpr (!isExact<S>()) {
        const int left =
            S::kPacking.units(kShape.columns) - firstUnit<S>(first);
        const int some = (left - part + kEach - 1) / kEach;
        if (some <= slices)
          slices = some, last = left - (slices - 1) * kEach;
      }
      units = {segment.weights[0] + at,
               segment.weights[S::kWeights - 1] + at,
               kParts == 1 ? all : part < all,
               S::kWeights,
               kBytes,
               kEach * kBytes,
               slices,
               kParts == 1 ? last : 1};
    });
    units.count = holds(piece, first) ? units.count : 0;
    return units;
  }

  /// The reader gets `steps` units, of which the warp has `count`.
  template <int kParts, class S, class Reader>
  LATHE_DEVICE_MEMBER static void multiplyItem(Sums &sums, Reader &ring,
                                               const SliceX<kX> &x, int steps,
                                               int count, int part) {
    eachOf<kMatvecSlice / S::kPacking.unitColumns()>([&]<int kUnit>() {
      if (kUnit >= steps || (kParts > 1 && kUnit != part))
        return;
      const char *unit = ring.wait();
      if (kUnit < count)
        multiplyUnit<S::kPacking, kUnit>(sums, unit, x);
      ring.release();
    });
  }
  template <int kCount, int kFirst = 0, class F>
  LATHE_DEVICE_MEMBER static void eachOf(F f) {
    f.template operator()<kFirst>();
    if constexpr (kFirst + 1 < kCount)
      eachOf<kCount, kFirst + 1>(f);
  }

  LATHE_DEVICE_MEMBER static void leave(Sums &sums, float *to) {
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
  const int warpId;
  const int split; ///< which range of columns
  const Buffers buffers;
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATVEC_CUH
