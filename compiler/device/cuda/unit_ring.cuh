//===- unit_ring.cuh - streams of weights to warps -------------*- CUDA -*-===//
//
// Units on their way from memory to the warps of a block. Every reader, a warp,
// has a ring of slots in shared memory, which the copy engine fills in order.
// One warp starts all copies, lane w those of reader w; it has nothing else to
// do, so that the readers' instructions are all arithmetic.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_UNIT_RING_CUH
#define LATHE_COMPILER_DEVICE_CUDA_UNIT_RING_CUH

#include "compiler/device/cuda/linear_sizes.h"
#include "compiler/device/cuda/prelude.cuh"

namespace lathe {

/// Where the rings lie. kShape says how many and how large.
template <UnitRingShape kShape> struct UnitRings {
  char *shared; ///< kShape.bytes(), 128-byte aligned

  LATHE_DEVICE_MEMBER char *slot(int reader, int i) const {
    return shared + (reader * kShape.stages + i) * kShape.slotBytes;
  }
  LATHE_DEVICE_MEMBER Barrier *full(int reader, int i) const {
    return (Barrier *)(shared + kShape.barriersAt()) + reader * kShape.stages +
           i;
  }
  LATHE_DEVICE_MEMBER Barrier *empty(int reader, int i) const {
    return full(reader, i) + kShape.readers * kShape.stages;
  }
  /// By all threads of the block, which then meet after a barrierInitFence. The
  /// lanes of a warp initialise one after the other, so every warp has a few.
  LATHE_DEVICE_MEMBER void prepare() const {
    const int warps = threadCount() / 32;
    for (int i = lane() * warps + warp();
         i < 2 * kShape.readers * kShape.stages; i += threadCount())
      barrierInit(full(0, i), 1);
  }
};

/// A reader's end; the warp calls together.
template <UnitRingShape kShape> class UnitReader {
public:
  LATHE_DEVICE_MEMBER UnitReader(UnitRings<kShape> rings, int reader)
      : slots(rings.slot(reader, 0)), full(rings.full(reader, 0)) {}

  /// Waits for the next unit.
  LATHE_DEVICE_MEMBER const char *wait() const {
    barrierWait(full + at, phase);
    return slots + at * kShape.slotBytes;
  }
  /// No lane reads that unit any more.
  LATHE_DEVICE_MEMBER void release() {
    syncWarp();
    if (lane() == 0)
      barrierArrive(full + kShape.readers * kShape.stages + at);
    if (++at == kShape.stages)
      at = 0, phase ^= 1;
  }

private:
  char *slots;
  Barrier *full;
  int at = 0;
  u32 phase = 0;
};

/// The other ends of all rings: lane w writes to reader w.
template <UnitRingShape kShape> class UnitWriter {
public:
  LATHE_DEVICE_MEMBER explicit UnitWriter(UnitRings<kShape> rings)
      : slots(rings.slot(reader(), 0)), full(rings.full(reader(), 0)) {}

  /// Starts the copy of a lane's next unit, if `has` one, once there is room.
  /// All lanes call together.
  LATHE_DEVICE_MEMBER void put(bool has, const char *from, int bytes) {
    const u32 votes = ballot(has);
    if (votes == 0)
      return;
    // Whoever has nothing to wait for waits with one that has.
    const int with = has ? lane() : 31 - leadingZeros(u64(votes) << 32);
    Barrier *const mine = full + kShape.readers * kShape.stages + at;
    barrierWait((Barrier *)shuffle((u64)mine, with), shuffle(phase ^ 1, with));
    if (has) {
      barrierExpect(full + at, bytes);
      copyBulk(slots + at * kShape.slotBytes, from, bytes, full + at);
      at = at + 1 == kShape.stages ? 0 : at + 1;
      phase ^= at == 0;
    }
  }

private:
  LATHE_DEVICE_MEMBER static int reader() {
    return lane() < kShape.readers ? lane() : 0;
  }

  char *slots;
  Barrier *full;
  int at = 0;
  u32 phase = 0;
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_UNIT_RING_CUH
