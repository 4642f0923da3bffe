//===- unit_ring.cuh - streams of weights to warps -------------*- CUDA -*-===//
//
// Units on their way from memory to the warps of a block. Every reader, some
// warps side by side, has a ring of slots in shared memory, a slot with room
// for a unit of each, which the copy engine fills in order. One warp starts all
// copies, lane r those of reader r; it has nothing else to do, so that the
// readers' instructions are all arithmetic.
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

  /// Where the first unit of a warp lies; the next ones are kShape.rowBytes()
  /// apart.
  LATHE_DEVICE_MEMBER char *slots(int warp) const {
    return shared + warp * kShape.unitBytes;
  }
  LATHE_DEVICE_MEMBER Barrier *full(int reader, int i) const {
    return (Barrier *)(shared + kShape.barriersAt()) + reader * kShape.stages +
           i;
  }
  LATHE_DEVICE_MEMBER Barrier *empty(int reader, int i) const {
    return full(reader, i) + kShape.readers * kShape.stages;
  }
  /// By all threads of the block, which then meet after a barrierInitFence;
  /// sharers(r): warps of reader r. The lanes of a warp initialise one after
  /// the other, so every warp has a few.
  template <class F> LATHE_DEVICE_MEMBER void prepare(F sharers) const {
    constexpr int kSlots = kShape.readers * kShape.stages;
    const int warps = threadCount() / 32;
    for (int i = lane() * warps + warp(); i < 2 * kSlots; i += threadCount())
      barrierInit(full(0, i),
                  i < kSlots ? 1 : 32 * sharers((i - kSlots) / kShape.stages));
  }
};

/// A reader's end, that of one of its warps, which calls together.
template <UnitRingShape kShape> class UnitReader {
public:
  LATHE_DEVICE_MEMBER UnitReader(UnitRings<kShape> rings, int reader, int warp)
      : slots(rings.slots(warp)), full(rings.full(reader, 0)) {}

  /// Waits for the warp's next unit.
  LATHE_DEVICE_MEMBER const char *wait() const {
    barrierWait(full + at, phase);
    return slots + at * kShape.rowBytes();
  }
  /// The warp does not read that unit any more. Every lane says so for itself,
  /// at no cost that was seen: racecheck does not follow a warp that meets
  /// first.
  LATHE_DEVICE_MEMBER void release() {
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

/// What goes into a slot: the units of `count` warps, of `bytes`, `stride`
/// bytes from one to the next.
struct UnitCopy {
  const char *from;
  int bytes, count, stride;
};

/// The other ends of all rings: lane r writes to reader r.
template <UnitRingShape kShape> class UnitWriter {
public:
  LATHE_DEVICE_MEMBER UnitWriter(UnitRings<kShape> rings, int firstWarp)
      : slots(rings.slots(firstWarp)), full(rings.full(reader(), 0)),
        empty(rings.empty(0, 0)) {}

  /// Starts the copy to a lane's next slot, if it `has` one, once there is
  /// room. All lanes call together.
  LATHE_DEVICE_MEMBER void put(bool has, const UnitCopy &copy) {
    const u32 votes = ballot(has);
    if (votes == 0)
      return;
    // Whoever has nothing to wait for waits with one that has.
    const int with = has ? lane() : 31 - leadingZeros(u64(votes) << 32);
    const u32 mine = (reader() * kShape.stages + at) * 2 + (phase ^ 1);
    const u32 theirs = shuffle(mine, with);
    barrierWait(empty + theirs / 2, theirs % 2);
    if (has) {
      const int bytes = copy.bytes * copy.count;
      char *const to = slots + at * kShape.rowBytes();
      barrierExpect(full + at, bytes);
      if (copy.stride == kShape.unitBytes && copy.bytes == kShape.unitBytes)
        copyBulk(to, copy.from, bytes, full + at);
      else
        for (int i = 0; i < copy.count; ++i)
          copyBulk(to + i * kShape.unitBytes, copy.from + i * copy.stride,
                   copy.bytes, full + at);
      at = at + 1 == kShape.stages ? 0 : at + 1;
      phase ^= at == 0;
    }
  }

  /// A lane's own; the first for lanes that have none.
  LATHE_DEVICE_MEMBER static int reader() {
    return lane() < kShape.readers ? lane() : 0;
  }

private:
  char *slots;
  Barrier *full;
  Barrier *const empty; ///< of the first reader
  int at = 0;
  u32 phase = 0;
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_UNIT_RING_CUH
