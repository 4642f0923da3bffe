//===- warpgroup_tile.cuh - 256 rows by up to 128 tokens -------*- CUDA -*-===//
//
// One tile of matmul_warpgroup.cuh, up to its sums. The copy engine brings
// packed weights unit by unit, for 16 row tiles at a time, and activations 64
// columns at a time, each through a ring of its own.
//
// A warp has two row tiles. Their packed units are already the tensor cores' A
// operand but for the width of the numbers: 64 columns of one tile become f16
// in registers while the tensor cores are busy with the other.
//
// An Int4 group's scale is not exact in f16. The sums are in units of the scale
// of the group that is being added, and are brought from one to the next.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_WARPGROUP_TILE_CUH
#define LATHE_COMPILER_DEVICE_CUDA_WARPGROUP_TILE_CUH

#include "compiler/device/cuda/intrinsics_warpgroup.cuh"
#include "compiler/device/cuda/matmul_weights.cuh"
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
          barrierInit(unitEmpty() + i, 32 * kWarpgroupUsers);
    for (int i = 0; i < kShape.stages; ++i)
      barrierInit(stepFull() + i, 1),
          barrierInit(stepEmpty() + i, kWarpgroupUsers);
    barrierInitFence();
  }
};

/// What a warp has of a tile: two row tiles by all tokens.
template <WarpgroupShape kShape> struct WarpgroupSums {
  static constexpr int kCount = kShape.tokens / 2;
  float sums[2][kCount];
  float scale[2][2]; ///< Int4: what those of rows g, g + 8 are in units of

  LATHE_DEVICE_MEMBER void clear() {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      scale[m][0] = scale[m][1] = 1.0f;
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        sums[m][i] = 0.0f;
    }
  }
};

/// 256 rows of one weight, or 128 of two.
struct WarpgroupRows {
  const char *weights[2];
  int first, tiles; ///< the first row tile, and how many the weight has
};

/// The row tile at place `i` of a block: with two weights, every other four
/// are of the second.
template <int kWeights> LATHE_DEVICE int tileAt(int i) {
  return kWeights == 2 ? i / 8 * 4 + i % 4 : i;
}
/// The first place of this warp; its second is four further.
LATHE_DEVICE int firstPlace() {
  const int w = warp();
  return w / 4 * 8 + w % 4;
}

/// One tile's sums, for all segments of one kind.
template <WarpgroupShape kShape, CudaPacking kPacking, int kWeights>
class WarpgroupTile {
  static constexpr bool kInt4 = kPacking.format == CudaFormat::Int4;
  static constexpr int kUnits = kPacking.units(kShape.columns);
  static constexpr int kSteps = kPacking.unitColumns() / kWarpgroupStep;
  static constexpr int kParts = partsOf(kPacking);
  /// Columns that are multiplied between two waits.
  static constexpr int kBatch =
      kInt4 && kPacking.grain < kWarpgroupStep ? kPacking.grain : 64;
  using Rings = WarpgroupRings<kShape>;
  using Sums = WarpgroupSums<kShape>;
  static_assert(kPacking.unitBytes() <= kShape.unitBytes);

public:
  LATHE_DEVICE_MEMBER WarpgroupTile(WarpgroupRows from, Rings &rings)
      : from(from), rings(rings) {}

  /// By the warp that copies; `activations` are those of the tile's tokens.
  LATHE_DEVICE_MEMBER void copy(const char *activations) {
#pragma unroll 1
    for (int unit = 0; unit < kUnits; ++unit) {
      copyUnit(unit);
#pragma unroll 1
      for (int i = 0; i < kSteps; ++i) {
        barrierWait(rings.stepEmpty() + rings.step.slot, rings.step.parity ^ 1);
        if (lane() == 0) {
          Barrier *full = rings.stepFull() + rings.step.slot;
          barrierExpect(full, kShape.stageBytes());
          copyBulk(rings.rows(), activations, kShape.stageBytes(), full);
        }
        syncWarp();
        activations += kShape.stageBytes();
        rings.step.next();
      }
    }
  }

  /// By a warp that multiplies.
  LATHE_DEVICE_MEMBER void multiply(Sums &to) {
    const int place = firstPlace();
    to.clear();
#pragma unroll 1
    for (int unit = 0; unit + 1 < kUnits; unit += 2) {
      multiplyUnit(place, unit > 0, true, to);
      multiplyUnit(place, true, false, to);
    }
    if constexpr (kUnits % 2 != 0)
      multiplyUnit(place, kUnits > 1, true, to);
    wgmmaWait<0>();
    wgmmaHold(to.sums[0]);
    wgmmaHold(to.sums[1]);
    release(rings.stepEmpty() + rings.step.before());
  }

private:
  /// A lane per row tile that exists.
  LATHE_DEVICE_MEMBER void copyUnit(int unit) {
    constexpr int kBytes = kPacking.unitBytes();
    const int left = (from.tiles - from.first) * kWeights;
    const int count = left < kWarpgroupTiles ? left : kWarpgroupTiles;
    Barrier *full = rings.unitFull() + rings.unit.slot;
    barrierWait(rings.unitEmpty() + rings.unit.slot, rings.unit.parity ^ 1);
    if (lane() == 0)
      barrierExpect(full, count * kBytes);
    syncWarp();
    const int tile = from.first + tileAt<kWeights>(lane());
    const bool second = kWeights == 2 && lane() / 4 % 2;
    const char *weight = second ? from.weights[1] : from.weights[0];
    if (lane() < kWarpgroupTiles && tile < from.tiles)
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

  /// One unit of both tiles. `started`: a step before it is to be released.
  LATHE_DEVICE_MEMBER void multiplyUnit(int place, bool started, bool first,
                                        Sums &to) {
    barrierWait(rings.unitFull() + rings.unit.slot, rings.unit.parity);
    const char *codes = rings.codes() + place * kPacking.unitBytes();
#pragma unroll
    for (int part = 0; part < kSteps; ++part) {
      barrierWait(rings.stepFull() + rings.step.slot, rings.step.parity);
      multiplyStep(codes, part, started || part > 0, first && part == 0, to);
      rings.step.next();
    }
    // Every lane for itself: it has read.
    barrierArrive(rings.unitEmpty() + rings.unit.slot);
    rings.unit.next();
  }

  /// Columns [64 part, 64 part + 64) of the unit, both tiles in turn. Before a
  /// tile's turn its last products are waited for, the other's still run.
  LATHE_DEVICE_MEMBER void multiplyStep(const char *codes, int part,
                                        bool releases, bool starts, Sums &to) {
#pragma unroll
    for (int first = 0; first < kWarpgroupStep; first += kBatch)
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const char *unit = codes + 4 * m * kPacking.unitBytes();
        const int column = part * kWarpgroupStep + first;
        const bool enters = kInt4 && column % kPacking.grain == 0;
        // What is needed from shared memory comes while products run.
        const WeightColumns<kPacking> weights = columnsOf(unit, part);
        const GroupChange change =
            enters ? changeTo(unit + 2048, column / kPacking.grain, to.scale[m])
                   : GroupChange{};
        // The compiler does not follow groups that run on around a loop.
        if (starts && first == 0 && (m == 0 || kSteps == 1))
          wgmmaWait<0>();
        else
          wgmmaWait<1>();
        wgmmaHold(to.sums[m]);
        if (first == 0 && m == 1 && releases)
          release(rings.stepEmpty() + rings.step.before());
#pragma unroll
        for (int k16 = first / 16; k16 < (first + kBatch) / 16; ++k16)
          operandsOf(weights, k16, a[m][k16]);
        if (enters)
          enterGroup(change, to.sums[m]);
        hold(first, m, to.sums[m]);
        wgmmaFence();
        issue(first, m, to.sums[m]);
        wgmmaCommit();
      }
  }

  static LATHE_DEVICE_MEMBER WeightColumns<kPacking> columnsOf(const char *unit,
                                                               int part) {
    constexpr int kCodes = kParts * (kPacking.unitColumns() == 64 ? 2048 : 512);
    constexpr int kGroups = 256 / kPacking.grain;
    const int group = part * 64 / kPacking.grain;
    return {unit + part * kCodes, unit + 2048 + part * 64,
            unit + 2048 + (kGroups + group) * 32};
  }

  /// Factors that bring the sums of rows g and g + 8 to a group's scales.
  struct GroupChange {
    float by0, by8;
  };
  static LATHE_DEVICE_MEMBER GroupChange changeTo(const char *scales, int group,
                                                  float (&scale)[2]) {
    u32 both = ((const u32 *)scales)[group * 8 + lane() / 4];
    float s0 = usable(lowerHalf(both)), s8 = usable(upperHalf(both));
    GroupChange change{scale[0] * reciprocal(s0), scale[1] * reciprocal(s8)};
    scale[0] = s0, scale[1] = s8;
    return change;
  }
  /// The scale's reciprocal must exist; of weights that are all zero nothing is
  /// seen at this size.
  static LATHE_DEVICE_MEMBER float usable(float s) {
    constexpr float kTiny = 0x1p-60f;
    return s == 0.0f ? kTiny : s;
  }
  static LATHE_DEVICE_MEMBER void enterGroup(GroupChange change,
                                             float (&sums)[Sums::kCount]) {
#pragma unroll
    for (int i = 0; i < Sums::kCount; ++i)
      sums[i] *= i & 2 ? change.by8 : change.by0;
  }

  LATHE_DEVICE_MEMBER void hold(int first, int m, float (&sums)[Sums::kCount]) {
    wgmmaHold(sums);
#pragma unroll
    for (int k16 = first / 16; k16 < (first + kBatch) / 16; ++k16)
#pragma unroll
      for (int p = 0; p < kParts; ++p)
        wgmmaHold(a[m][k16][p]);
  }

  LATHE_DEVICE_MEMBER void issue(int first, int m,
                                 float (&sums)[Sums::kCount]) {
    const u64 rows = wgmmaOperand(rings.rows());
#pragma unroll
    for (int plane = 0; plane < kShape.planes; ++plane)
#pragma unroll
      for (int k16 = first / 16; k16 < (first + kBatch) / 16; ++k16)
#pragma unroll
        for (int p = 0; p < kParts; ++p)
          wgmma(sums, a[m][k16][p],
                rows + plane * kShape.planeBytes() / 16 + 2 * k16);
  }

  const WarpgroupRows from;
  Rings &rings;
  u32 a[2][4][kParts][4];
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_WARPGROUP_TILE_CUH
