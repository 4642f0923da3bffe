//===- warpgroup_sizes.h - launches of a prompt's linears -------*- C++ -*-===//
//
// Of the matmul that runs on warpgroup tensor-core instructions
// (matmul_warpgroup.cuh). Header-free: the emitter sizes launches with it, the
// kernel lays its memory out with it.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_WARPGROUP_SIZES_H
#define LATHE_COMPILER_DEVICE_CUDA_WARPGROUP_SIZES_H

namespace lathe {

/// Rows of a block, those of a row tile, and columns of a step.
constexpr int kWarpgroupRows = 256, kWarpgroupStep = 64;
constexpr int kWarpgroupTiles = kWarpgroupRows / 16;
/// Warps that multiply, two warpgroups; a third has one that copies. Registers
/// of a thread in each: together as many as three warpgroups start with.
constexpr int kWarpgroupUsers = 8, kWarpgroupThreads = 3 * 128;
constexpr int kWarpgroupUserRegisters = 240, kWarpgroupCopyRegisters = 24;

struct WarpgroupShape {
  int columns;
  int planes;    ///< 1: activations as f16; 2: with a lower part, exact
  int unitBytes; ///< of packed weights, the most of any segment
  int tokens;    ///< of a block: a multiple of 16 from 64 to 128
  int stages;    ///< of activations in flight

  constexpr int paddedColumns() const { return (columns + 255) / 256 * 256; }

  /// A step's activations: one plane's rows are 128 bytes, and 16-byte piece c
  /// of row t lies at piece c ^ (t & 7), as the tensor cores want it.
  constexpr int planeBytes() const { return tokens * kWarpgroupStep * 2; }
  constexpr int stageBytes() const { return planes * planeBytes(); }
  /// Units of weights in flight, per row tile.
  constexpr int slots() const { return 2; }
  constexpr int slotBytes() const { return kWarpgroupTiles * unitBytes; }

  constexpr int stagesAt() const { return 0; }
  constexpr int slotsAt() const { return stages * stageBytes(); }
  constexpr int barriersAt() const { return slotsAt() + slots() * slotBytes(); }
  /// One that fills and one that empties for everything in flight.
  constexpr int sharedBytes() const {
    return barriersAt() + 2 * (stages + slots()) * 8;
  }

  /// Where columns [column, column + 2) of a token's row are in the workspace,
  /// `column` being a multiple of 4; the next two are at this ^ 16. The order
  /// within 16 columns is that of matmul_input.cuh.
  constexpr long long place(int token, int plane, int column) const {
    int row = token % tokens, at = column % kWarpgroupStep;
    long long step =
        (long long)(token / tokens) * (paddedColumns() / kWarpgroupStep) +
        column / kWarpgroupStep;
    int piece = at / 16 * 2 ^ (row & 7);
    return step * stageBytes() + plane * planeBytes() + row * 128 + piece * 16 +
           at % 16 / 4 * 4;
  }
  constexpr long long scratchBytes(long long most) const {
    return (most + tokens - 1) / tokens * (paddedColumns() / kWarpgroupStep) *
           stageBytes();
  }
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_WARPGROUP_SIZES_H
