//===- CudaTarget.h - a GPU architecture and its limits ---------*- C++ -*-===//
//
// What a kernel for an architecture may use, known without a GPU and without
// CUDA: the planner sizes tiles with it and the compiler checks them. Pure and
// thread-safe.
//
// An architecture is written as NVIDIA's tools do: "sm_90" runs on compute
// capability 9.0 and later 9.x; "sm_120f" has what the family 12.x shares;
// "sm_90a" has every instruction of exactly 9.0 and runs nowhere else.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_BASE_CUDATARGET_H
#define LATHE_RUNTIME_BASE_CUDATARGET_H

#include "runtime/base/Status.h"

#include <string>
#include <string_view>

namespace lathe {

/// Registers that one thread can have, and that an SM has, on every
/// architecture from sm_80.
inline constexpr int kCudaRegistersPerThread = 255;
inline constexpr int kCudaRegistersPerSm = 65536;

struct CudaTarget {
  std::string arch; ///< "sm_120f": the compiler's -arch
  int major = 0;    ///< compute capability 12.0 is {12, 0}
  int minor = 0;
  int sharedPerBlock = 0; ///< bytes, static and dynamic, after opting in
  int sharedPerSm = 0;    ///< bytes; every resident block costs 1 KiB more
  int warpsPerSm = 0;     ///< resident
  int blocksPerSm = 0;    ///< resident
  int defaultSms = 0;     ///< of a common card: to compile without the GPU
};

/// The target of "sm_80" and up, with an optional 'a' or 'f' where the
/// architecture has one. Errors: usageError that lists what is known.
StatusOr<CudaTarget> parseCudaTarget(std::string_view arch);

/// The target to compile for when the code is to run on a GPU of this compute
/// capability: the family target from 10.0 ("sm_120f" for 12.0 and 12.1),
/// "sm_90a" for 9.0, else the plain one ("sm_89"). A minor version that is not
/// known yet takes the last one before it. Errors: capacityError for older or
/// unknown GPUs.
StatusOr<CudaTarget> cudaTargetFor(int major, int minor);

/// What kernels that are planned for `arch`, to run on another GPU, may use:
/// its limits, of a block's shared memory whole 32 KiB (96 of SM_120's 99), so
/// that a driver that takes a little changes nothing. Errors as above.
StatusOr<CudaTarget> profileLimits(std::string_view arch);

/// Dynamic shared memory with which a block takes the same share of an SM of
/// `device` that a block of `threads` threads and `dynamicShared` bytes takes
/// of one of `limits`, be it of shared memory, warps or blocks: as many run
/// together as there. At least `dynamicShared`, at most what a block of
/// `device` can have.
int sharedForShare(const CudaTarget &limits, const CudaTarget &device,
                   int threads, int dynamicShared);

/// Whether blocks of the target can reach each other's shared memory.
bool hasClusters(const CudaTarget &target);

/// Whether the target has the tensor-core instructions of a warpgroup (wgmma).
bool hasWarpgroupMma(const CudaTarget &target);

/// Whether code for `target` runs on compute capability `major`.`minor`.
bool runsOn(const CudaTarget &target, int major, int minor);

} // namespace lathe

#endif // LATHE_RUNTIME_BASE_CUDATARGET_H
