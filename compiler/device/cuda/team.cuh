//===- team.cuh - the threads that do something together -------*- CUDA -*-===//
//
// A team has a rank() per thread, a size() and a sync(); its threads are the
// first ones of the block, whole warps.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_TEAM_CUH
#define LATHE_COMPILER_DEVICE_CUDA_TEAM_CUH

#include "compiler/device/cuda/prelude.cuh"

namespace lathe {

/// All threads of the block.
struct BlockTeam {
  LATHE_DEVICE_MEMBER int rank() const { return threadX(); }
  LATHE_DEVICE_MEMBER int size() const { return threadCount(); }
  LATHE_DEVICE_MEMBER void sync() const { syncThreads(); }
};

/// The first kWarps warps, which meet at the named barrier kBarrier.
template <int kWarps, int kBarrier> struct WarpTeam {
  LATHE_DEVICE_MEMBER int rank() const { return threadX(); }
  static constexpr int size() { return 32 * kWarps; }
  LATHE_DEVICE_MEMBER void sync() const { syncNamed(kBarrier, size()); }
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_TEAM_CUH
