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

/// Warps of a matvec's block that finish row tiles: sums, epilogue, stores.
/// They wait for memory, which the warps that multiply must not.
constexpr int kMatvecFinishers = 4;

/// What a matvec kernel is built from besides its segments.
struct MatvecShape {
  int columns;   ///< K
  int tokens;    ///< T, 1 to 8
  int split;     ///< blocks that share the columns of a row tile
  int warps;     ///< that multiply; with `split` it fixes the sums' order
  int stages;    ///< units in flight per warp
  int unitBytes; ///< the largest of the segments
  int pairs;     ///< weights per row tile: 1, or 2 for gate and up
  int scales;    ///< floats per token that norms in the prologue keep

  constexpr int threads() const { return 32 * (warps + kMatvecFinishers); }
  /// Columns of a block, a multiple of every format's unit.
  constexpr int splitColumns() const {
    return ((columns + split - 1) / split + 255) / 256 * 256;
  }
  /// Operand columns of the activations: an upper and a lower part per token.
  constexpr int operandColumns() const { return 2 * tokens; }
  constexpr int activationBytes() const {
    return splitColumns() * operandColumns() * 2;
  }
  constexpr int ringBytes() const { return warps * stages * unitBytes; }
  /// Row tiles that may be unfinished at a time.
  constexpr int buffers() const { return tokens > 4 ? 1 : tokens > 2 ? 4 : 8; }
  /// Finishers at work. A whole number of buffers each: whoever waits for a
  /// buffer to fill has then itself emptied it before, so that the phase of its
  /// barrier is never two ahead.
  constexpr int finishers() const {
    return buffers() < kMatvecFinishers ? buffers() : kMatvecFinishers;
  }
  /// Partial sums of the unfinished row tiles.
  constexpr int partialBytes() const {
    return buffers() * pairs * warps * tokens * 16 * 4;
  }
  constexpr int barrierCount() const { return warps * stages + 2 * buffers(); }
  constexpr int barrierBytes() const { return barrierCount() * 8; }
  constexpr int scaleBytes() const {
    return (scales + threads() / 32) * tokens * 4;
  }

  constexpr int ringAt() const { return 0; }
  constexpr int activationsAt() const {
    return (ringBytes() + 127) / 128 * 128;
  }
  constexpr int partialsAt() const {
    return activationsAt() + activationBytes();
  }
  constexpr int barriersAt() const { return partialsAt() + partialBytes(); }
  constexpr int scalesAt() const {
    return (barriersAt() + barrierBytes() + 15) / 16 * 16;
  }
  constexpr int sharedBytes() const { return scalesAt() + scaleBytes(); }
};

/// Bytes of a row tile of `weights` weights.
constexpr int matvecTileBytes(const CudaPacking &packing, int columns,
                              int weights) {
  return packing.units(columns) * packing.unitBytes() * weights;
}
/// Items that a row tile is divided into, so that none is much heavier than
/// the lightest tile of the kernel: dense rows beside 4-bit ones.
constexpr int matvecParts(int tileBytes, int lightest) {
  int parts = (tileBytes + lightest / 2) / lightest;
  return parts < 1 ? 1 : parts > 8 ? 8 : parts;
}
/// Workspace of the sums that a row tile's parts and splits leave.
constexpr long long matvecScratch(int items, int split, int pairs, int tokens) {
  return (long long)items * split * pairs * tokens * 16 * 4;
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
  /// The activations as f16, one row per token.
  constexpr long long scratchBytes(long long tokens) const {
    return (tokens + kMatmulTokens - 1) / kMatmulTokens * kMatmulTokens *
           planes * paddedColumns() * 2;
  }
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_LINEAR_SIZES_H
