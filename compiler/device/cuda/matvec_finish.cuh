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

#include "compiler/device/cuda/matvec_segments.cuh"
#include "compiler/device/cuda/unit.cuh"

namespace lathe {

/// Which part of a matvec a block does, and its shared memory without rings.
struct MatvecPlace {
  char *shared;
  int block, blocks;
};

/// The first slice of a quarter.
template <MatvecShape kShape> LATHE_DEVICE constexpr int matvecQuarter(int i) {
  return kShape.slices() * i / kMatvecQuarters;
}

/// Buffers of partial sums, [buffer][weight][slice][token][row], and their
/// barriers. Turn t of group g uses number t * groups + g, round and round.
template <MatvecShape kShape> class MatvecBuffers {
  static constexpr int kBuffers = kShape.buffers();
  static constexpr int kSums = kShape.tokens * 16; ///< of a slice

public:
  LATHE_DEVICE_MEMBER MatvecBuffers(char *sums, Barrier *barriers)
      : sums((float *)sums), barriers(barriers) {}

  /// By one warp. All lanes arrive: the workers of a group fill a buffer, a
  /// finisher empties it.
  LATHE_DEVICE_MEMBER void prepare() const {
    if (lane() < 2 * kMatvecBuffers)
      barrierInit(barriers + lane(),
                  lane() < kMatvecBuffers ? 32 * kShape.slices() : 32);
  }
  LATHE_DEVICE_MEMBER MatvecBuffers of(int turn, int group) const {
    MatvecBuffers buffer = *this;
    buffer.number = turn * kShape.groups() + group;
    return buffer;
  }

  LATHE_DEVICE_MEMBER float *partial(int weight, int slice) const {
    return sums +
           ((number % kBuffers * kShape.pairs + weight) * kShape.slices() +
            slice) *
               kSums;
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

public:
  LATHE_DEVICE_MEMBER MatvecFinish(const LatheLaunch &ctx, const List &list,
                                   const MatvecPlace &place,
                                   const Buffers &buffers)
      : ctx(ctx), list(list), place(place), buffers(buffers),
        split(place.block % kShape.split) {}

  /// A buffer always has the same finisher: whoever waits for it to fill has
  /// then itself emptied it before, so that the phase of its barrier is never
  /// two ahead.
  LATHE_DEVICE_MEMBER void finishItems(int finisher) const {
    const int end = piecesOf(0).most() * kShape.groups();
    for (int round = 0; round < end; round += kShape.buffers())
      for (int i = finisher; i < kShape.buffers(); i += kMatvecFinishers)
        visit(round + i,
              [&]<int kParts>(const auto &segment, int own, const Piece &piece,
                              const Buffers &buffer) {
                finish<kParts>(segment, own, piece, buffer);
              });
    if constexpr (kDefers)
      combineItems(finisher, end);
  }

private:
  /// Where every item meets others in the workspace, a fence for each would
  /// take longer than its weights: there is one at the end.
  static constexpr bool kDefers = kShape.split > 1;

  LATHE_DEVICE_MEMBER PieceList piecesOf(int group) const {
    return PieceList(List::kItems, List::kCuttable,
                     place.block / kShape.split * kShape.groups() + group,
                     place.blocks / kShape.split * kShape.groups());
  }

  /// visit.template operator()<parts>(segment, item in it, piece, buffer) for
  /// the piece that MatvecBuffers counts as `number`, if there is one.
  template <class Visit>
  LATHE_DEVICE_MEMBER void visit(int number, Visit visit) const {
    const int group = number % kShape.groups();
    const int turn = number / kShape.groups();
    const PieceList pieces = piecesOf(group);
    if (turn >= pieces.count())
      return;
    const Piece piece = pieces.at(turn);
    list.visit(piece.item, [&]<int kParts, class S>(const S &segment, int own) {
      visit.template operator()<kParts>(segment, own, piece,
                                        buffers.of(turn, group));
    });
  }

  /// After the last item: announces what finish() has left in the workspace,
  /// and combines the row tiles to which this finisher was the last to arrive.
  /// Lane l asks for the l-th of the finisher's next 32 pieces.
  LATHE_DEVICE_MEMBER void combineItems(int finisher, int end) const {
    const int rounds = (end + kShape.buffers() - 1) / kShape.buffers();
    const int each =
        (kShape.buffers() - finisher + kMatvecFinishers - 1) / kMatvecFinishers;
    fenceDevice();
    syncWarp();
    for (int first = 0; first < rounds * each; first += 32) {
      int tile = 0;
      u32 all = 0;
      for (int i = 0; i < 32 && first + i < rounds * each; ++i)
        visit(numberOf(finisher, first + i, each),
              [&]<int kParts>(const auto &, int own, const Piece &piece,
                              const Buffers &) {
                tile = lane() == i ? piece.item - own % kParts : tile;
                all = lane() == i ? arrivals<kParts>(piece) : all;
              });
      u32 votes = ballot(all > 0 && arrive(tile, all));
      if (votes != 0)
        fenceDevice();
      for (; votes != 0; votes &= votes - 1) {
        const int next = first + 63 - leadingZeros(u64(votes & -votes));
        visit(numberOf(finisher, next, each),
              [&]<int kParts>(const auto &segment, int own, const Piece &piece,
                              const Buffers &) {
                combine<kParts>(segment, own, piece);
              });
      }
    }
  }
  LATHE_DEVICE_MEMBER static int numberOf(int finisher, int i, int each) {
    return i / each * kShape.buffers() + finisher + i % each * kMatvecFinishers;
  }

  /// The sum of element e = t * 16 + row over the slices of a quarter.
  template <int kQuarter>
  LATHE_DEVICE_MEMBER static float quarterSum(const float *from) {
    constexpr int kBegin = matvecQuarter<kShape>(kQuarter);
    constexpr int kEnd = matvecQuarter<kShape>(kQuarter + 1);
    float sum = 0.0f;
#pragma unroll
    for (int s = kBegin; s < kEnd; ++s)
      sum += from[s * kSums];
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
    buffer.waitFull();
    forEach([&](int i, int e) {
      for (int w = 0; w < S::kWeights; ++w)
        y[i][w] = addUp(buffer.partial(w, 0) + e, piece);
    });
    buffer.arriveEmpty();
    const int cut = kMatvecQuarters / piece.quarters;
    if (kShape.split * kParts * cut == 1) {
      forEach([&](int i, int e) { apply(segment, own / kParts, e, y[i]); });
      return;
    }
    float *mine = workspace(piece.item, split, piece.quarter);
    forEach([&](int i, int e) {
      for (int w = 0; w < S::kWeights; ++w)
        mine[w * kSums + e] = y[i][w];
    });
    if constexpr (kDefers)
      return;
    fenceDevice();
    syncWarp();
    u32 last = 0;
    if (lane() == 0)
      last = arrive(piece.item - own % kParts, arrivals<kParts>(piece));
    if (shuffle(last, 0) == 0)
      return;
    fenceDevice();
    combine<kParts>(segment, own, piece);
  }

  LATHE_DEVICE_MEMBER float *workspace(int item, int split, int quarter) const {
    return (float *)ctx.scratch +
           ((i64)(item * kShape.split + split) * kMatvecQuarters + quarter) *
               kShape.pairs * kSums;
  }

  /// Pieces that a row tile is made of.
  template <int kParts>
  LATHE_DEVICE_MEMBER static u32 arrivals(const Piece &piece) {
    return kShape.split * kParts * (kMatvecQuarters / piece.quarters);
  }
  /// Whether this is the last of `all` to arrive of a row tile, whose first
  /// item is `tile`; by one thread.
  LATHE_DEVICE_MEMBER bool arrive(int tile, u32 all) const {
    const bool last = atomicAddDevice(ctx.counters + tile, 1) == all - 1;
    if (last)
      ctx.counters[tile] = 0;
    return last;
  }
  /// Adds up what all have left of a row tile, in the order of columns.
  template <int kParts, class S>
  LATHE_DEVICE_MEMBER void combine(const S &segment, int own,
                                   const Piece &piece) const {
    const int first = piece.item - own % kParts;
    const int cut = kMatvecQuarters / piece.quarters;
    forEach([&](int, int e) {
      float y[S::kWeights];
      for (int w = 0; w < S::kWeights; ++w) {
        y[w] = 0.0f;
#pragma unroll
        for (int s = 0; s < kShape.split * kParts; ++s)
          y[w] += loadCut(workspace(first + s % kParts, s / kParts, 0) +
                              w * kSums + e,
                          cut);
      }
      apply(segment, own / kParts, e, y);
    });
  }
  /// An item's sum from its pieces, as addUp() has it of one piece.
  LATHE_DEVICE_MEMBER static float loadCut(const float *from, int cut) {
    constexpr int kQuarter = kShape.pairs * kSums;
    if (cut == 1)
      return loadFresh(from);
    if (cut == 2)
      return loadFresh(from) + loadFresh(from + 2 * kQuarter);
    return (loadFresh(from) + loadFresh(from + kQuarter)) +
           (loadFresh(from + 2 * kQuarter) + loadFresh(from + 3 * kQuarter));
  }

  template <class F> LATHE_DEVICE_MEMBER static void forEach(F f) {
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      if (kSums % 32 == 0 || lane() + 32 * i < kSums)
        f(i, lane() + 32 * i);
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
  const MatvecPlace &place;
  const Buffers buffers;
  const int split;
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATVEC_FINISH_CUH
