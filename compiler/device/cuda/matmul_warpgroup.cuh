//===- matmul_warpgroup.cuh - a prompt's linear on sm_90a ------*- CUDA -*-===//
//
// The second stage of a prompt's linear where the tensor cores take B from
// shared memory and run beside the warps. A block multiplies 256 rows of a
// segment with up to 128 tokens, then the next such tile. One warp lets the
// copy engine bring packed weights, unit by unit, and activations, 64 columns
// at a time, each through a ring of its own that runs on from tile to tile.
//
// Two warpgroups multiply. A warp has two row tiles, whose packed units are
// already the tensor cores' A operand but for the width of the numbers: they
// become f16 in registers, 64 columns of one tile while the tensor cores are
// busy with the other.
//
// An Int4 group's scale is not exact in f16. The sums are in units of the scale
// of the group that is being added, and are brought from one to the next.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATMUL_WARPGROUP_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATMUL_WARPGROUP_CUH

#include "compiler/device/cuda/intrinsics_warpgroup.cuh"
#include "compiler/device/cuda/matmul_weights.cuh"
#include "compiler/device/cuda/matvec.cuh"
#include "compiler/device/cuda/warpgroup_sizes.h"

namespace lathe {

/// A place in a ring of kCount and the parity of the pass over it.
template <int kCount> struct RingPlace {
  int slot = 0;
  u32 parity = 0;

  LATHE_DEVICE_MEMBER void next() {
    if (++slot == kCount)
      slot = 0, parity ^= 1;
  }
  LATHE_DEVICE_MEMBER int before() const {
    return slot == 0 ? kCount - 1 : slot - 1;
  }
};

/// Both rings of a block, as one warp sees them.
template <WarpgroupShape kShape> struct WarpgroupRings {
  RingPlace<kShape.slots()> unit;
  RingPlace<kShape.stages> step;
  char *const shared = sharedMemory();

  LATHE_DEVICE_MEMBER char *codes() const {
    return shared + kShape.slotsAt() + unit.slot * kShape.slotBytes();
  }
  LATHE_DEVICE_MEMBER char *rows() const {
    return shared + kShape.stagesAt() + step.slot * kShape.stageBytes();
  }
  LATHE_DEVICE_MEMBER Barrier *barriers() const {
    return (Barrier *)(shared + kShape.barriersAt());
  }
  LATHE_DEVICE_MEMBER Barrier *unitFull() const { return barriers(); }
  LATHE_DEVICE_MEMBER Barrier *unitEmpty() const {
    return barriers() + kShape.slots();
  }
  LATHE_DEVICE_MEMBER Barrier *stepFull() const {
    return barriers() + 2 * kShape.slots();
  }
  LATHE_DEVICE_MEMBER Barrier *stepEmpty() const {
    return stepFull() + kShape.stages;
  }

  /// By one thread, before the block's barrier.
  LATHE_DEVICE_MEMBER void init() const {
    for (int i = 0; i < kShape.slots(); ++i)
      barrierInit(unitFull() + i, 1),
          barrierInit(unitEmpty() + i, kWarpgroupUsers);
    for (int i = 0; i < kShape.stages; ++i)
      barrierInit(stepFull() + i, 1),
          barrierInit(stepEmpty() + i, kWarpgroupUsers);
    barrierInitFence();
  }
};

/// 256 rows of a segment (128 of each, of two) by a tile of tokens.
template <WarpgroupShape kShape, class S> class WarpgroupTile {
  static constexpr CudaPacking kPacking = S::kPacking;
  static constexpr bool kInt4 = kPacking.format == CudaFormat::Int4;
  static constexpr int kUnits = kPacking.units(kShape.columns);
  static constexpr int kSteps = kPacking.unitColumns() / kWarpgroupStep;
  static constexpr int kParts = partsOf(kPacking);
  static constexpr int kSums = kShape.tokens / 2;
  /// Columns that are multiplied between two waits.
  static constexpr int kBatch =
      kInt4 && kPacking.grain < kWarpgroupStep ? kPacking.grain : 64;
  using Rings = WarpgroupRings<kShape>;
  static_assert(kPacking.unitBytes() <= kShape.unitBytes);

public:
  /// Row blocks of this segment.
  static constexpr int kBlocks =
      ceilDiv(S::kTiles * S::kWeights, kWarpgroupTiles);

  LATHE_DEVICE_MEMBER WarpgroupTile(const LatheLaunch &ctx, const S &segment,
                                    Rings &rings, int rowBlock, int tokenTile)
      : ctx(ctx), segment(segment), rings(rings),
        firstTile(rowBlock * (kWarpgroupTiles / S::kWeights)),
        tokenTile(tokenTile) {}

  /// By the warp that copies.
  LATHE_DEVICE_MEMBER void copy() {
    const char *rows =
        ctx.scratch + kShape.place(tokenTile * kShape.tokens, 0, 0);
#pragma unroll 1
    for (int unit = 0; unit < kUnits; ++unit) {
      copyUnit(unit);
#pragma unroll 1
      for (int i = 0; i < kSteps; ++i) {
        barrierWait(rings.stepEmpty() + rings.step.slot, rings.step.parity ^ 1);
        if (lane() == 0) {
          Barrier *full = rings.stepFull() + rings.step.slot;
          barrierExpect(full, kShape.stageBytes());
          copyBulk(rings.rows(), rows, kShape.stageBytes(), full);
        }
        syncWarp();
        rows += kShape.stageBytes();
        rings.step.next();
      }
    }
  }

  /// By a warp that multiplies.
  LATHE_DEVICE_MEMBER void multiply() {
    const int w = warp();
    firstPlace = w / 4 * 8 + w % 4;
    clear();
#pragma unroll 1
    for (int unit = 0; unit < kUnits; ++unit) {
      barrierWait(rings.unitFull() + rings.unit.slot, rings.unit.parity);
#pragma unroll
      for (int part = 0; part < kSteps; ++part) {
        barrierWait(rings.stepFull() + rings.step.slot, rings.step.parity);
        multiplyStep(part, unit > 0 || part > 0);
        rings.step.next();
      }
      release(rings.unitEmpty() + rings.unit.slot);
      rings.unit.next();
    }
    wgmmaWait<0>();
    wgmmaHold(sums[0]);
    wgmmaHold(sums[1]);
    release(rings.stepEmpty() + rings.step.before());
    store();
  }

private:
  /// The row tile at place `i` of a block: with two weights, every other four
  /// are of the second.
  static LATHE_DEVICE_MEMBER int tileOf(int i) {
    return S::kWeights == 2 ? i / 8 * 4 + i % 4 : i;
  }
  static LATHE_DEVICE_MEMBER int weightOf(int i) {
    return S::kWeights == 2 ? i / 4 % 2 : 0;
  }

  /// A lane per row tile that exists.
  LATHE_DEVICE_MEMBER void copyUnit(int unit) {
    constexpr int kBytes = kPacking.unitBytes();
    const int left = (S::kTiles - firstTile) * S::kWeights;
    const int count = left < kWarpgroupTiles ? left : kWarpgroupTiles;
    Barrier *full = rings.unitFull() + rings.unit.slot;
    barrierWait(rings.unitEmpty() + rings.unit.slot, rings.unit.parity ^ 1);
    if (lane() == 0)
      barrierExpect(full, count * kBytes);
    syncWarp();
    const int tile = firstTile + tileOf(lane());
    const char *weight = segment.weights[0];
    if constexpr (S::kWeights == 2)
      weight = weightOf(lane()) ? segment.weights[1] : weight;
    if (lane() < kWarpgroupTiles && tile < S::kTiles)
      copyBulk(rings.codes() + lane() * kBytes,
               weight + kCudaWeightHeader +
                   ((i64)tile * kUnits + unit) * kBytes,
               kBytes, full);
    syncWarp();
    rings.unit.next();
  }

  static LATHE_DEVICE_MEMBER void release(Barrier *b) {
    syncWarp();
    if (lane() == 0)
      barrierArrive(b);
  }

  LATHE_DEVICE_MEMBER void clear() {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      scale[m][0] = scale[m][1] = 1.0f;
#pragma unroll
      for (int i = 0; i < kSums; ++i)
        sums[m][i] = 0.0f;
    }
  }

  /// Columns [64 part, 64 part + 64) of the unit, both tiles in turn. Before a
  /// tile's turn its last products are waited for, the other's still run.
  LATHE_DEVICE_MEMBER void multiplyStep(int part, bool releases) {
#pragma unroll
    for (int first = 0; first < kWarpgroupStep; first += kBatch)
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const char *unit =
            rings.codes() + (firstPlace + 4 * m) * kPacking.unitBytes();
        const int column = part * kWarpgroupStep + first;
        // The compiler does not follow groups that run on around a loop.
        if (column == 0 && (m == 0 || kSteps == 1))
          wgmmaWait<0>();
        else
          wgmmaWait<1>();
        wgmmaHold(sums[m]);
        if (first == 0 && m == 1 && releases)
          release(rings.stepEmpty() + rings.step.before());
        if (kInt4 && column % kPacking.grain == 0)
          enterGroup(unit + 2048, column / kPacking.grain, m);
        makeOperands(unit, part, first, m);
        hold(first, m);
        wgmmaFence();
        issue(first, m);
        wgmmaCommit();
      }
  }

  /// The scale's reciprocal must exist; of weights that are all zero nothing is
  /// seen at this size.
  static LATHE_DEVICE_MEMBER float usable(float s) {
    constexpr float kTiny = 0x1p-60f;
    return s == 0.0f ? kTiny : s;
  }
  LATHE_DEVICE_MEMBER void enterGroup(const char *scales, int group, int m) {
    u32 both = ((const u32 *)scales)[group * 8 + lane() / 4];
    float s0 = usable(lowerHalf(both)), s8 = usable(upperHalf(both));
    float from0 = scale[m][0] * reciprocal(s0),
          from8 = scale[m][1] * reciprocal(s8);
#pragma unroll
    for (int i = 0; i < kSums; ++i)
      sums[m][i] *= i & 2 ? from8 : from0;
    scale[m][0] = s0, scale[m][1] = s8;
  }

  LATHE_DEVICE_MEMBER void makeOperands(const char *unit, int part, int first,
                                        int m) {
    constexpr int kCodes = kParts * (kPacking.unitColumns() == 64 ? 2048 : 512);
#pragma unroll
    for (int k16 = first / 16; k16 < (first + kBatch) / 16; ++k16) {
      const int group = (part * 64 + k16 * 16) / kPacking.grain;
      operandsOf<kPacking>({unit + part * kCodes, unit + 2048 + part * 64,
                            unit + 2048 + (256 / kPacking.grain + group) * 32},
                           k16, a[m][k16]);
    }
  }

  LATHE_DEVICE_MEMBER void hold(int first, int m) {
    wgmmaHold(sums[m]);
#pragma unroll
    for (int k16 = first / 16; k16 < (first + kBatch) / 16; ++k16)
#pragma unroll
      for (int p = 0; p < kParts; ++p)
        wgmmaHold(a[m][k16][p]);
  }

  LATHE_DEVICE_MEMBER void issue(int first, int m) {
    const u64 rows = wgmmaOperand(rings.rows());
#pragma unroll
    for (int plane = 0; plane < kShape.planes; ++plane)
#pragma unroll
      for (int k16 = first / 16; k16 < (first + kBatch) / 16; ++k16)
#pragma unroll
        for (int p = 0; p < kParts; ++p)
          wgmma(sums[m], a[m][k16][p],
                rows + plane * kShape.planeBytes() / 16 + 2 * k16);
  }

  LATHE_DEVICE_MEMBER void store() const {
    constexpr float kUnscale = 1.0f / operandScale(kPacking) / kActivationScale;
    const int first = tokenTile * kShape.tokens + lane() % 4 * 2;
    float by[2][2];
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int lower = 0; lower < 2; ++lower)
        by[m][lower] = scale[m][lower] * kUnscale *
                       *(const float *)segment.weights[S::kWeights == 2 && m];
#pragma unroll
    for (int i = 0; i < kSums; ++i) {
      const int t = first + i / 4 * 8 + (i & 1), lower = i >> 1 & 1;
      if (t >= ctx.step->tokens)
        continue;
#pragma unroll
      for (int m = 0; m < 3 - S::kWeights; ++m) {
        int row = (firstTile + tileOf(firstPlace + 4 * m)) * 16 + lane() / 4 +
                  8 * lower;
        if (row >= S::kRows)
          continue;
        if constexpr (S::kWeights == 2)
          segment.epilogue(t, row, by[0][lower] * sums[0][i],
                           by[1][lower] * sums[1][i]);
        else
          segment.epilogue(t, row, by[m][lower] * sums[m][i]);
      }
    }
  }

  const LatheLaunch &ctx;
  const S &segment;
  Rings &rings;
  const int firstTile, tokenTile;
  int firstPlace; ///< of this warp's tiles; the second is four further
  float sums[2][kSums];
  float scale[2][2]; ///< Int4: what the sums of rows g, g + 8 are in units of
  u32 a[2][4][kParts][4];
};

template <WarpgroupShape kShape, class First, class... Rest>
constexpr int warpgroupBlocks() {
  int blocks = WarpgroupTile<kShape, First>::kBlocks;
  if constexpr (sizeof...(Rest) > 0)
    blocks += warpgroupBlocks<kShape, Rest...>();
  return blocks;
}

/// Row block `block` of the segments behind each other.
template <WarpgroupShape kShape, bool kCopies, class First, class... Rest>
LATHE_DEVICE void
warpgroupTile(const LatheLaunch &ctx, WarpgroupRings<kShape> &rings, int block,
              int tokenTile, const First &first, const Rest &...rest) {
  using Tile = WarpgroupTile<kShape, First>;
  if constexpr (sizeof...(Rest) > 0)
    if (block >= Tile::kBlocks) {
      warpgroupTile<kShape, kCopies>(ctx, rings, block - Tile::kBlocks,
                                     tokenTile, rest...);
      return;
    }
  Tile tile(ctx, first, rings, block, tokenTile);
  if constexpr (kCopies)
    tile.copy();
  else
    tile.multiply();
}

/// All tiles of the segments, dealt to the blocks of the grid: those of one row
/// block, which share their weights, run beside each other.
template <WarpgroupShape kShape, bool kCopies, class... Segments>
LATHE_DEVICE void warpgroupTiles(const LatheLaunch &ctx,
                                 const Segments &...segments) {
  WarpgroupRings<kShape> rings;
  const int tokenTiles = ceilDiv(ctx.step->tokens, kShape.tokens);
  const int tiles = warpgroupBlocks<kShape, Segments...>() * tokenTiles;
#pragma unroll 1
  for (int i = blockX(); i < tiles; i += gridX())
    warpgroupTile<kShape, kCopies>(ctx, rings, i / tokenTiles, i % tokenTiles,
                                   segments...);
}

template <WarpgroupShape kShape, class... Segments>
LATHE_DEVICE void matmulWarpgroup(const LatheLaunch &ctx,
                                  const Segments &...segments) {
  if (threadX() == 0)
    WarpgroupRings<kShape>().init();
  syncThreads();
  const int w = warp();
  if (w >= kWarpgroupUsers) {
    giveRegisters<kWarpgroupCopyRegisters>();
    if (w == kWarpgroupUsers)
      warpgroupTiles<kShape, true>(ctx, segments...);
  } else {
    takeRegisters<kWarpgroupUserRegisters>();
    warpgroupTiles<kShape, false>(ctx, segments...);
  }
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATMUL_WARPGROUP_CUH
