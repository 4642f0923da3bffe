//===- matvec_launch.cuh - a matvec as a launch of its own -----*- CUDA -*-===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATVEC_LAUNCH_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATVEC_LAUNCH_CUH

#include "compiler/device/cuda/matvec.cuh"
#include "compiler/device/cuda/operands.cuh"

namespace lathe {

/// Which part of the work block blockX() does. Twins have the same columns.
template <MatvecShape kShape> LATHE_DEVICE int matvecBlock() {
  if constexpr (kShape.twins == 1)
    return blockX();
  const int pair = blockX() / 2;
  return (pair / kShape.split * 2 + blockX() % 2) * kShape.split +
         pair % kShape.split;
}

/// The whole of a block: kShape.threads() threads, kShape.sharedBytes() of
/// shared memory. multiply(matvec, ring, start) prepares the activations of a
/// warp that works and multiplies; they are there after start().
template <MatvecShape kShape, class List, class Multiply>
LATHE_DEVICE void launchMatvec(const LatheLaunch &ctx, const List &list,
                               Multiply multiply) {
  constexpr UnitRingShape kRings = kShape.rings();
  constexpr int kFinishers = kShape.finishers();
  const MatvecRoles<kShape.workers(), kFinishers> role{warp()};
  const UnitRings<kRings> rings{sharedMemory()};
  using Readers = MatvecReaders<kShape>;
  const Matvec<kShape, List, Readers> matvec(
      ctx, list,
      {sharedMemory() + kRings.bytes(), matvecBlock<kShape>(), gridX()},
      role.warp);
  rings.prepare([](int reader) {
    const int sharers = Readers::end(reader) - Readers::first(reader);
    return sharers > 0 ? sharers : 1;
  });
  // Starting with the last, which has the fewest barriers of rings.
  constexpr int kWarps = kShape.threads() / 32;
  matvec.prepare(kWarps - 1 - role.warp, kWarps);
  barrierInitFence();
  if constexpr (kShape.twins == 2)
    clusterArrive();
  syncThreads();
  if (role.fetches()) {
    UnitWriter<kRings> writer(rings,
                              Readers::firstWarp(UnitWriter<kRings>::reader()));
    return matvec.fetch(writer);
  }
  const auto start = [] {
    if constexpr (kShape.twins == 2)
      clusterWait();
    waitForPrevious();
    launchNext();
  };
  if (role.multiplies()) {
    UnitReader<kRings> ring(rings, Readers::of(role.warp), role.warp);
    return multiply(matvec, ring, start);
  }
  start();
  if (role.finishes())
    matvec.finish(role.warp - kShape.workers(), kFinishers);
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATVEC_LAUNCH_CUH
