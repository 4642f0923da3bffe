//===- linear_sizes.h - shared memory and workspace of linears --*- C++ -*-===//
//
// Header-free: the emitter sizes launches with it, the kernels lay their
// memory out with it.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_LINEAR_SIZES_H
#define LATHE_COMPILER_DEVICE_CUDA_LINEAR_SIZES_H

#include "runtime/base/CudaWeights.h"

namespace lathe {

/// Columns of the slice of the activations that a warp keeps in registers.
constexpr int kMatvecSlice = 256;
/// Warps of a matvec's block that finish row tiles: sums, epilogue, stores.
/// They wait for memory, which the warps that multiply must not. So many
/// where all others multiply; see finishers().
constexpr int kMatvecFinishers = 3;
/// Most groups of warps that work on different row tiles, and most row tiles
/// that may be unfinished at a time.
constexpr int kMatvecGroups = 8, kMatvecBuffers = 8;
/// Pieces that a row tile may be cut into when there are too few to go round,
/// by slices: an item's sum is always that of its quarters.
constexpr int kMatvecQuarters = 4;

/// Rings of weights in a block's shared memory (unit_ring.cuh).
struct UnitRingShape {
  int readers;   ///< at most 32
  int warps;     ///< of all readers together
  int stages;    ///< units of a warp
  int unitBytes; ///< of the largest; a multiple of 64

  /// Those of a stage, warp by warp.
  constexpr int rowBytes() const { return warps * unitBytes; }
  constexpr int barriersAt() const { return stages * rowBytes(); }
  constexpr int bytes() const {
    return (barriersAt() + 2 * readers * stages * 8 + 127) / 128 * 128;
  }
};

/// The activations of a matvec as operands of tensor cores, eight columns each.
struct MatvecOperands {
  int tokens; ///< T, 1 to 8
  int parts;  ///< f16 parts of a value: 1, or 2 to be as exact as f32

  /// Up to four tokens both parts of a value share an operand.
  constexpr int count() const { return parts == 2 && tokens > 4 ? 2 : 1; }
  constexpr bool joint() const { return parts == 2 && tokens <= 4; }
};

/// What a matvec kernel is built from besides its segments.
struct MatvecShape {
  int columns;   ///< K
  int tokens;    ///< T, 1 to 8
  int split;     ///< blocks that share the columns of a row tile
  int warps;     ///< of a block that may multiply
  int stages;    ///< units in flight per warp
  int unitBytes; ///< the largest unit of the segments
  int pairs;     ///< weights per row tile: 1, or 2 for gate and up
  int scales;    ///< floats per token that norms in the prologue keep
  int parts;     ///< of MatvecOperands
  int twins;     ///< 2: neighbouring blocks share the activations, else 1

  /// In the persistent step, where blocks have no twins.
  constexpr MatvecShape alone() const {
    MatvecShape shape = *this;
    shape.twins = 1;
    return shape;
  }
  constexpr MatvecOperands operands() const { return {tokens, parts}; }

  /// Tokens that a block prepares itself; the others its twin.
  constexpr int ownTokens() const { return (tokens + twins - 1) / twins; }
  /// Columns of a block.
  constexpr int splitColumns() const {
    return ((columns + split - 1) / split + kMatvecSlice - 1) / kMatvecSlice *
           kMatvecSlice;
  }
  /// Slices of a block, one warp of each group has each.
  constexpr int slices() const { return splitColumns() / kMatvecSlice; }
  /// Slices of a whole row.
  constexpr int rowSlices() const {
    return (columns + kMatvecSlice - 1) / kMatvecSlice;
  }
  /// The first slice of a quarter.
  constexpr int quarter(int i) const { return slices() * i / kMatvecQuarters; }
  /// Groups of warps, each with row tiles of its own.
  constexpr int groups() const {
    int groups = 1;
    while (2 * groups <= kMatvecGroups && 2 * groups * slices() <= warps)
      groups *= 2;
    return groups;
  }
  constexpr bool fits() const { return slices() <= warps; }
  /// Of a warp that multiplies.
  constexpr int groupOf(int warp) const { return warp / slices(); }
  constexpr int sliceOf(int warp) const {
    return groups() == 1 ? warp : warp % slices();
  }
  /// Warps that do multiply.
  constexpr int workers() const { return groups() * slices(); }
  /// Warps that may multiply, those that finish, and the one that fetches.
  constexpr int threads() const { return 32 * (warps + kMatvecFinishers + 1); }
  /// Warps that finish in a launch of its own: in a large block all that have
  /// nothing to multiply, one per buffer at most.
  constexpr int finishers() const {
    const int idle = threads() / 32 - 1 - workers();
    const int most = warps > 12 ? buffers() : kMatvecFinishers;
    return idle < most ? idle : most;
  }

  /// Whether the slices of a quarter share a ring in a launch of its own. With
  /// two operands that takes registers which are not there; and where the last
  /// quarter has one more than the others, 17 slices were faster alone.
  constexpr bool sharesRings() const {
    return slices() >= kMatvecQuarters && slices() % kMatvecQuarters != 1 &&
           operands().count() == 1;
  }
  /// In a launch of its own; the persistent step has rings for all its stages.
  constexpr UnitRingShape rings() const {
    return {sharesRings() ? groups() * kMatvecQuarters : workers(), workers(),
            stages, unitBytes};
  }
  /// Of two operands, the lower parts of the activations stay here.
  constexpr int lowerBytes() const {
    return operands().count() == 2 ? tokens * 512 : 0;
  }
  /// Where a warp turns a piece of its slice into operand form: 64 columns, or
  /// 128 of a single token; of twins, all. With two operands 96 columns stay,
  /// and what else has no place in registers.
  constexpr int stagingBytes() const {
    return operands().count() == 2 ? tokens * 192 + 256
           : twins == 2            ? tokens * 512
                                   : (tokens == 1 ? 2 : tokens) * parts * 128;
  }
  constexpr int stagedBytes() const {
    return operands().count() == 2 ? tokens * 192 : 0;
  }
  /// Row tiles that may be unfinished at a time: a multiple of the groups.
  constexpr int buffers() const {
    const int wanted = operands().count() == 2 ? (pairs == 1 ? 3 : 2)
                       : pairs * tokens > 8    ? 3
                                               : 6;
    return (wanted + groups() - 1) / groups() * groups();
  }
  /// A warp's sums of the unfinished row tiles of its group.
  constexpr int partialBytes() const {
    return buffers() / groups() * pairs * tokens * 16 * 4;
  }
  /// Where those lie in a warp's part of the shared memory: with one operand
  /// they take the place of what was staged.
  constexpr int partialsAt() const {
    return operands().count() == 2 ? lowerBytes() + stagingBytes() : 0;
  }
  constexpr int warpBytes() const {
    const int sums = partialsAt() + partialBytes();
    return sums > stagingBytes() ? sums : stagingBytes();
  }
  /// Floats per token of partial sums: one per worker, or of each group one per
  /// slice of the row.
  constexpr int partialScales() const { return groups() * rowSlices(); }
  constexpr int scaleBytes() const {
    return (scales +
            (workers() > partialScales() ? workers() : partialScales())) *
           tokens * 4;
  }

  // From the start of the shared memory that is not rings; the barriers of the
  // buffers come first, for all shapes alike; a worker has one of its twin's.
  constexpr int twinBarriersAt() const { return 2 * kMatvecBuffers * 8; }
  constexpr int warpsAt() const {
    return twinBarriersAt() +
           (twins == 2 ? (workers() * 8 + 127) / 128 * 128 : 0);
  }
  constexpr int scalesAt() const { return warpsAt() + workers() * warpBytes(); }
  constexpr int workBytes() const { return scalesAt() + scaleBytes(); }
  /// In a launch of its own: the rings come first.
  constexpr int sharedBytes() const { return rings().bytes() + workBytes(); }
};

/// Bytes of a row tile of `weights` weights.
constexpr int matvecTileBytes(const CudaPacking &packing, int columns,
                              int weights) {
  return packing.units(columns) * packing.unitBytes() * weights;
}
/// Items that a row tile is divided into, so that none is much heavier than
/// the lightest tile of the kernel, dense rows beside 4-bit ones: one per unit
/// of a slice, or one for all.
constexpr int matvecParts(const CudaPacking &packing, int tileBytes,
                          int lightest) {
  const int units = kMatvecSlice / packing.unitColumns();
  return units > 1 && tileBytes >= 2 * lightest ? units : 1;
}
/// Workspace of the sums that the pieces of a row tile leave.
constexpr long long matvecScratch(int items, int split, int pairs, int tokens) {
  return (long long)items * split * kMatvecQuarters * pairs * tokens * 16 * 4;
}

// A matmul kernel: 128 rows by 128 tokens per block, 64 columns per step.
constexpr int kMatmulThreads = 256, kMatmulRows = 128, kMatmulTokens = 128,
              kMatmulStep = 64;

/// Bytes of a row tile's codes, and of its scales, for one step. Scales of a
/// group that is wider than a step are fetched with every step.
constexpr int matmulCodeBytes(const CudaPacking &packing) {
  return packing.format == CudaFormat::Wide   ? 4096
         : packing.format == CudaFormat::Half ? 2048
                                              : 512;
}
constexpr int matmulScaleBytes(const CudaPacking &packing) {
  if (packing.format == CudaFormat::NvFp4)
    return 64;
  if (packing.format != CudaFormat::Int4)
    return 0;
  int groups = packing.grain >= kMatmulStep ? 1 : kMatmulStep / packing.grain;
  return groups * 32 * (packing.asymmetric ? 2 : 1);
}
constexpr int matmulTileBytes(const CudaPacking &packing) {
  return matmulCodeBytes(packing) + matmulScaleBytes(packing);
}

struct MatmulShape {
  int columns;
  int planes;    ///< 1: activations as f16; 2: with a lower part, exact
  int tileBytes; ///< matmulTileBytes(), the most of any segment
  int stages;

  constexpr int paddedColumns() const { return (columns + 255) / 256 * 256; }
  constexpr int stageBytes() const {
    return kMatmulRows / 16 * tileBytes +
           planes * kMatmulTokens * kMatmulStep * 2;
  }
  constexpr int sharedBytes() const { return stages * stageBytes(); }
  /// Where columns [column, column + 2) of a token's row are in the workspace,
  /// `column` being a multiple of 4; the next two are at this ^ 16.
  constexpr long long place(int token, int plane, int column) const {
    return (((long long)token * planes + plane) * paddedColumns() +
            column / 16 * 16 + column % 16 / 2) *
           2;
  }
  /// The activations as f16, one row per token.
  constexpr long long scratchBytes(long long tokens) const {
    return (tokens + kMatmulTokens - 1) / kMatmulTokens * kMatmulTokens *
           planes * paddedColumns() * 2;
  }
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_LINEAR_SIZES_H
