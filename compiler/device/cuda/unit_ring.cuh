//===- unit_ring.cuh - a warp's stream of weights ---------------*- CUDA
//-*-===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_UNIT_RING_CUH
#define LATHE_COMPILER_DEVICE_CUDA_UNIT_RING_CUH

#include "compiler/device/cuda/prelude.cuh"

namespace lathe {

/// Units on their way from memory to a warp: kStages slots of kSlotBytes of
/// shared memory, filled by the copy engine in order. All lanes of the warp
/// hold the same and call together.
template <int kStages, int kSlotBytes> class UnitRing {
public:
  /// `barriers`: kStages of this warp's own, initialised for one arrival.
  LATHE_DEVICE_MEMBER UnitRing(char *slots, Barrier *barriers)
      : slots(slots), barriers(barriers) {}

  LATHE_DEVICE_MEMBER bool hasRoom() const { return inFlight < kStages; }
  /// Starts the copy of the next unit into a free slot.
  LATHE_DEVICE_MEMBER void start(const char *from, int bytes) {
    int slot = head + inFlight;
    slot -= slot >= kStages ? kStages : 0;
    if (lane() == 0) {
      barrierExpect(barriers + slot, bytes);
      copyBulk(slots + slot * kSlotBytes, from, bytes, barriers + slot);
    }
    ++inFlight;
  }
  /// Waits for the oldest unit.
  LATHE_DEVICE_MEMBER const char *wait() const {
    barrierWait(barriers + head, phase);
    return slots + head * kSlotBytes;
  }
  /// Frees the oldest unit's slot, which no lane reads any more.
  LATHE_DEVICE_MEMBER void release() {
    syncWarp();
    --inFlight;
    if (++head == kStages)
      head = 0, phase ^= 1;
  }

private:
  char *const slots;
  Barrier *const barriers;
  int head = 0, inFlight = 0;
  u32 phase = 0; ///< of `head`'s barrier
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_UNIT_RING_CUH
