//===- KernelAbi.h - how the runtime calls a CPU kernel ---------*- C++ -*-===//
//
// The C interface between the executor and a compiled CPU kernel. The file is
// header-free: it is also embedded at build time and prepended to every
// kernel that the in-process compiler sees.
//
// A launch calls the same kernel on every thread of the team. `args` holds the
// kernel's operands, then its results, in the order of the kernel.func's
// signature: activations are float, token-major, with the row stride rounded
// up to LATHE_LANES floats; weights are in the packed form that the plan names.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_BASE_KERNELABI_H
#define LATHE_RUNTIME_BASE_KERNELABI_H

/// Width of the CPU vector types, in floats; activation rows and weight tiles
/// are padded to it.
#define LATHE_LANES 16

/// A state with replay (ir/SPEC.md) keeps what the tokens of the last decode
/// step were made of: at most so many, in a ring in which the token at position
/// p is row p % LATHE_REPLAY_RING. The ring holds the tokens of two steps and
/// the taps of a convolution before them, so a step never overwrites a row that
/// it or another thread still reads.
#define LATHE_REPLAY_TOKENS 8
#define LATHE_REPLAY_RING 32

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
