//===- matvec_finish.cuh - from a matvec's sums to its outputs -*- CUDA -*-===//
//
// The warps of a matvec that multiply leave their sums in buffers of shared
// memory; here warps that do nothing else add them up and run the epilogue.
// What several blocks or pieces have of a row tile goes through the workspace,
// and the last of them to arrive adds that up.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATVEC_FINISH_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATVEC_FINISH_CUH

#include "compiler/device/cuda/matvec_norm.cuh"
#include "compiler/device/cuda/matvec_segments.cuh"
#include "compiler/device/cuda/unit.cuh"

namespace lathe {

/// Which part of a matvec a block does, and its shared memory without rings.
struct MatvecPlace {
  char *shared;
  int block, blocks;
};

/// What group `group` of the block's warps does.
template <MatvecShape kShape, class List>
LATHE_DEVICE PieceList matvecPieces(const MatvecPlace &place, int group) {
  return PieceList(List::kItems, List::kCuttable,
                   place.block / kShape.split * kShape.groups() + group,
                   place.blocks / kShape.split * kShape.groups());
}

/// Buffers of partial sums, in every warp's part of the shared memory [buffer
/// of its group][weight][token][row], and their barriers. Turn t of group g
/// uses number t * groups + g, round and round.
template <MatvecShape kShape> class MatvecBuffers {
  static constexpr int kBuffers = kShape.buffers();
  static constexpr int kSums = kShape.tokens * 16; ///< of a slice

public:
  static constexpr int kStride = kShape.warpBytes() / 4; ///< to the next slice

  LATHE_DEVICE_MEMBER MatvecBuffers(char *warps, Barrier *barriers)
      : sums((float *)(warps + kShape.partialsAt())), barriers(barriers) {}

  /// By warp `warp` of `warps`. All lanes arrive: the workers of a group fill a
  /// buffer, a finisher empties it.
  LATHE_DEVICE_MEMBER void prepare(int warp, int warps) const {
    const int i = lane() * warps + warp;
    if (i < 2 * kMatvecBuffers)
      barrierInit(barriers + i, i < kMatvecBuffers ? 32 * kShape.slices() : 32);
  }
  LATHE_DEVICE_MEMBER MatvecBuffers of(int turn, int group) const {
    MatvecBuffers buffer = *this;
    buffer.number = turn * kShape.groups() + group;
    return buffer;
  }

  LATHE_DEVICE_MEMBER float *partial(int weight, int slice) const {
    const int own = number % kBuffers / kShape.groups();
    const int warp = number % kShape.groups() * kShape.slices() + slice;
    return sums + warp * kStride + (own * kShape.pairs + weight) * kSums;
  }
  LATHE_DEVICE_MEMBER void waitFull() const {
    barrierWait(barriers + number % kBuffers, number / kBuffers & 1);
  }
  LATHE_DEVICE_MEMBER void arriveFull() const {
    barrierArrive(barriers + number % kBuffers);
  }
  LATHE_DEVICE_MEMBER void waitEmpty() const {
    if (number >= kBuffers)
      barrierWait(barriers + kMatvecBuffers + number % kBuffers,
                  (number / kBuffers - 1) & 1);
  }
  LATHE_DEVICE_MEMBER void arriveEmpty() const {
    barrierArrive(barriers + kMatvecBuffers + number % kBuffers);
  }

private:
  float *sums;
  Barrier *barriers;
  int number = 0;
};

template <MatvecShape kShape, class List> class MatvecFinish {
  static constexpr int kTokens = kShape.tokens;
  static constexpr int kSums = kTokens * 16;
  static constexpr int kEach = (kSums + 31) / 32; ///< sums of a lane
  using Buffers = MatvecBuffers<kShape>;
  using Norm = SliceNorm<kShape, typename List::Norm, 1>;

public:
  /// `partialScales`: what SliceNorm has left of a norm whose scale comes
  /// later.
  LATHE_DEVICE_MEMBER MatvecFinish(const LatheLaunch &ctx, const List &list,
                                   const MatvecPlace &place,
                                   const Buffers &buffers,
                                   const float *partialScales)
      : ctx(ctx), list(list), place(place), buffers(buffers),
        partialScales(partialScales), split(place.block % kShape.split) {}

  /// A buffer always has the same finisher: whoever waits for it to fill has
  /// then itself emptied it before, so that the phase of its barrier is never
  /// two ahead.
  LATHE_DEVICE_MEMBER void finishItems(int finisher, int finishers) {
    const int end = piecesOf(0).most() * kShape.groups();
    for (int round = 0; round < end; round += kShape.buffers())
      for (int i = finisher; i < kShape.buffers(); i += finishers)
        finishNumber(round + i);
  }

private:
  LATHE_DEVICE_MEMBER PieceList piecesOf(int group) const {
    return matvecPieces<kShape, List>(place, group);
  }

  /// The piece that MatvecBuffers counts as `number`, if there is one.
  LATHE_DEVICE_MEMBER void finishNumber(int number) {
    const int group = number % kShape.groups();
    const int turn = number / kShape.groups();
    const PieceList pieces = piecesOf(group);
    if (turn >= pieces.count())
      return;
    const Piece piece = pieces.at(turn);
    list.visit(piece.item, [&]<int kParts, class S>(const S &segment, int own) {
      const Buffers buffer = buffers.of(turn, group);
      buffer.waitFull();
      findScales(group);
      finish<kParts>(segment, own, piece, buffer);
    });
  }

  /// The sum of element e = t * 16 + row over the slices of a quarter.
  template <int kQuarter>
  LATHE_DEVICE_MEMBER static float quarterSum(const float *from) {
    constexpr int kBegin = kShape.quarter(kQuarter);
    constexpr int kEnd = kShape.quarter(kQuarter + 1);
    float sum = 0.0f;
#pragma unroll
    for (int s = kBegin; s < kEnd; ++s)
      sum += from[s * Buffers::kStride];
    return sum;
  }
  LATHE_DEVICE_MEMBER static float addUp(const float *from,
                                         const Piece &piece) {
    if (piece.quarters == kMatvecQuarters)
      return (quarterSum<0>(from) + quarterSum<1>(from)) +
             (quarterSum<2>(from) + quarterSum<3>(from));
    if (piece.quarters == 2)
      return piece.quarter == 0 ? quarterSum<0>(from) + quarterSum<1>(from)
                                : quarterSum<2>(from) + quarterSum<3>(from);
    const float low =
        piece.quarter == 0 ? quarterSum<0>(from) : quarterSum<1>(from);
    const float high =
        piece.quarter == 2 ? quarterSum<2>(from) : quarterSum<3>(from);
    return piece.quarter < 2 ? low : high;
  }

  template <int kParts, class S>
  LATHE_DEVICE_MEMBER void finish(const S &segment, int own, const Piece &piece,
                                  const Buffers &buffer) const {
    float y[kEach][S::kWeights];
    forEach([&](int i, int e, bool) {
      for (int w = 0; w < S::kWeights; ++w)
        y[i][w] = addUp(buffer.partial(w, 0) + e, piece);
    });
    buffer.arriveEmpty();
    const int cut = kMatvecQuarters / piece.quarters;
    if (kShape.split * kParts * cut > 1) {
      float *mine = workspace(piece.item, split, piece.quarter);
      forEach([&](int i, int e, bool exists) {
        for (int w = 0; w < S::kWeights; ++w)
          if (exists)
            mine[w * kSums + e] = y[i][w];
      });
      const int first = piece.item - own % kParts;
      if (!isLast(first, kShape.split * kParts * cut))
        return;
      if (cut == 1)
        combine<kParts, 1>(first, y);
      else if (cut == 2)
        combine<kParts, 2>(first, y);
      else
        combine<kParts, 4>(first, y);
    }
    apply(segment, own / kParts, y);
  }

  /// When a group's first buffer is full, all of its warps have left their
  /// partial sums.
  LATHE_DEVICE_MEMBER void findScales(int group) {
    if constexpr (Norm::kLater) {
      if (scaled)
        return;
      scaled = true;
      forEach([&](int i, int e, bool) {
        scales[i] = Norm::rowScale(
            list.norm.eps,
            partialScales + group * (kTokens * kShape.rowSlices()), e / 16);
      });
    }
  }
  LATHE_DEVICE_MEMBER float scale(int i) const {
    return Norm::kLater ? scales[i] : 1.0f;
  }

  LATHE_DEVICE_MEMBER float *workspace(int item, int split, int quarter) const {
    return (float *)ctx.scratch +
           ((i64)(item * kShape.split + split) * kMatvecQuarters + quarter) *
               kShape.pairs * kSums;
  }

  /// Whether this is the last of `all` to arrive at the row tile whose first
  /// item is `first`; then it sees what the others have left.
  LATHE_DEVICE_MEMBER bool isLast(int first, int all) const {
    u32 before = 0;
    syncWarp();
    if (lane() == 0)
      before = atomicCountDevice(ctx.counters + first);
    before = shuffle(before, 0);
    syncWarp();
    if (before != all - 1)
      return false;
    if (lane() == 0)
      ctx.counters[first] = 0;
    return true;
  }

  /// What all have left of a row tile, in the order of columns.
  template <int kParts, int kCut, int kWeights>
  LATHE_DEVICE_MEMBER void combine(int first,
                                   float (&y)[kEach][kWeights]) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      for (int w = 0; w < kWeights; ++w) {
        float sum = 0.0f;
#pragma unroll
        for (int s = 0; s < kShape.split * kParts; ++s)
          sum += loadCut<kCut>(workspace(first + s % kParts, s / kParts, 0) +
                               w * kSums + element(i));
        y[i][w] = sum;
      }
  }
  /// An item's sum from its pieces, as addUp() has it of one piece.
  template <int kCut>
  LATHE_DEVICE_MEMBER static float loadCut(const float *from) {
    constexpr int kQuarter = kShape.pairs * kSums;
    if constexpr (kCut == 1)
      return loadFresh(from);
    if constexpr (kCut == 2)
      return loadFresh(from) + loadFresh(from + 2 * kQuarter);
    return (loadFresh(from) + loadFresh(from + kQuarter)) +
           (loadFresh(from + 2 * kQuarter) + loadFresh(from + 3 * kQuarter));
  }

  /// f(i, element, whether it exists); one that does not is like another's.
  template <class F> LATHE_DEVICE_MEMBER static void forEach(F f) {
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      f(i, element(i), kSums % 32 == 0 || lane() + 32 * i < kSums);
  }
  LATHE_DEVICE_MEMBER static int element(int i) {
    const int e = lane() + 32 * i;
    return kSums % 32 == 0 || e < kSums ? e : kSums - 1;
  }

  template <class S>
  LATHE_DEVICE_MEMBER void apply(const S &segment, int tile,
                                 float (&y)[kEach][S::kWeights]) const {
    float by[S::kWeights];
    for (int w = 0; w < S::kWeights; ++w)
      by[w] = outputScale<S::kPacking>() * *(const float *)segment.weights[w];
    LaterStores<kEach * S::kOutputs> later;
    bool exists[kEach];
    forEach([&](int i, int e, bool is) {
      const int t = e / 16;
      int row = tile * 16 + e % 16;
      exists[i] = is && row < S::kRows;
      row = row < S::kRows ? row : S::kRows - 1;
      float sums[S::kWeights];
      for (int w = 0; w < S::kWeights; ++w)
        sums[w] = by[w] * y[i][w] * scale(i);
      if constexpr (S::kWeights == 2)
        segment.epilogue(t, row, sums[0], sums[1], later);
      else
        segment.epilogue(t, row, sums[0], later);
    });
#pragma unroll
    for (int s = 0; s < kEach * S::kOutputs; ++s)
      if (exists[s / S::kOutputs])
        *later.to[s] = later.value[s];
  }

  const LatheLaunch &ctx;
  const List &list;
  const MatvecPlace &place;
  const Buffers buffers;
  const float *const partialScales;
  const int split;
  float scales[kEach]; ///< of the norm, for the token of each sum
  bool scaled = false; ///< they are known
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATVEC_FINISH_CUH
