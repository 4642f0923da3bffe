//===- KernelAbi.h - how the runtime calls a CPU kernel ---------*- C++ -*-===//
//
// The C interface between the executor and a compiled CPU kernel. The file is
// free of library headers: it is also embedded at build time and prepended to
// every kernel that the in-process compiler sees.
//
// A launch calls the same kernel on every thread of the team. `args` holds the
// kernel's operands, then its results, in the order of the kernel.func's
// signature: activations are float, token-major, with the row stride rounded
// up to LATHE_LANES floats; weights are in the packed form that the plan names.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_BASE_KERNELABI_H
#define LATHE_RUNTIME_BASE_KERNELABI_H

#include "runtime/base/Replay.h"

/// Width of the CPU vector types, in floats; activation rows and weight tiles
/// are padded to it.
#define LATHE_LANES 16

/// A sense-counting barrier shared by the team; both words start at zero.
struct LatheBarrier {
  int arrived;
  int generation;
};

/// What a kernel knows about its launch besides its operands.
struct LatheContext {
  int thread;            ///< this thread's index in the team
  int threads;           ///< team size
  int tokens;            ///< rows of every activation operand in this launch
  int position;          ///< sequence position of the first of these tokens
  int capacity;          ///< positions that each KV cache holds
  int pending;           ///< tokens right before `position` that states with
                         ///< replay have not folded in yet
  void *shared;          ///< scratch shared by the team, 64-byte aligned
  void *local;           ///< scratch of this thread, 64-byte aligned
  LatheBarrier *barrier; ///< for a barrier inside the kernel
  void (*yield)(void);   ///< gives up the core for a moment; may be null
};

typedef void (*LatheKernel)(void *const *args, const LatheContext *context);

#endif // LATHE_RUNTIME_BASE_KERNELABI_H
