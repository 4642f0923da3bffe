//===- matvec_readers.cuh - who shares a ring of weights -------*- CUDA -*-===//
//
// The warps of a matvec that share a ring (unit_ring.cuh) have slices side by
// side, whose units a single copy can bring: starting copies is what the warp
// that fetches spends its time on.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATVEC_READERS_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATVEC_READERS_CUH

#include "compiler/device/cuda/linear_sizes.h"
#include "compiler/device/cuda/prelude.cuh"

namespace lathe {

/// A ring for each quarter of a group's slices.
template <MatvecShape kShape> struct QuarterReaders {
  static constexpr int kCount = kShape.groups() * kMatvecQuarters;

  LATHE_DEVICE_MEMBER static int of(int warp) {
    const int slice = kShape.sliceOf(warp);
    int quarter = 0;
    for (int q = 1; q < kMatvecQuarters; ++q)
      quarter += slice >= kShape.quarter(q);
    return kShape.groupOf(warp) * kMatvecQuarters + quarter;
  }
  LATHE_DEVICE_MEMBER static int group(int reader) {
    return reader / kMatvecQuarters;
  }
  LATHE_DEVICE_MEMBER static int firstWarp(int reader) {
    return group(reader) * kShape.slices() + first(reader);
  }
  /// Its slices are [first, end).
  LATHE_DEVICE_MEMBER static int first(int reader) {
    return kShape.quarter(reader % kMatvecQuarters);
  }
  LATHE_DEVICE_MEMBER static int end(int reader) {
    return kShape.quarter(reader % kMatvecQuarters + 1);
  }
};

/// A ring for each warp; so it is in the persistent step, whose matvecs have
/// different groups.
template <MatvecShape kShape> struct WarpReaders {
  static constexpr int kCount = kShape.workers();

  LATHE_DEVICE_MEMBER static int of(int warp) { return warp; }
  LATHE_DEVICE_MEMBER static int firstWarp(int reader) { return reader; }
  LATHE_DEVICE_MEMBER static int group(int reader) {
    return kShape.groupOf(reader);
  }
  LATHE_DEVICE_MEMBER static int first(int reader) {
    return kShape.sliceOf(reader);
  }
  LATHE_DEVICE_MEMBER static int end(int reader) { return first(reader) + 1; }
};

/// In a launch of its own.
template <MatvecShape kShape, bool kShared = kShape.sharesRings()>
struct MatvecReaders : QuarterReaders<kShape> {};
template <MatvecShape kShape>
struct MatvecReaders<kShape, false> : WarpReaders<kShape> {};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATVEC_READERS_CUH
