//===- CudaAbi.h - how the runtime calls a CUDA kernel ----------*- C++ -*-===//
//
// The interface between the executor and a compiled CUDA kernel. The file is
// header-free: it is also embedded at build time and compiled by NVRTC.
//
// A kernel.func becomes one or more entries ("stages", Plan.h), launched in
// order. Every entry takes a LatheLaunch by value and then one device pointer
// per operand, in the order of KernelAbi.h's `args`: activations are float,
// token-major, with the row stride rounded up to LATHE_LANES floats; weights
// are packed as compiler/device/cuda/weights.cuh describes.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_BASE_CUDAABI_H
#define LATHE_RUNTIME_BASE_CUDAABI_H

#include "runtime/base/Replay.h"

/// Where the sequence stands; in device memory, so that a captured graph reads
/// a new value every time it is played.
struct LatheStep {
  int position; ///< sequence position of the first token of this launch
  int tokens;   ///< rows of every activation; decode kernels know their count
  int pending;  ///< tokens right before `position` that states with replay have
                ///< not folded in yet
};

/// What every entry is given besides its operands.
struct LatheLaunch {
  const LatheStep *step;
  char *scratch;      ///< the kernel's workspace, 256-byte aligned, undefined
  unsigned *counters; ///< LATHE_COUNTERS zeros; a kernel leaves zeros behind
  int capacity;       ///< positions that each KV cache holds
};

/// A launch inside the persistent step, which runs the launches of a whole step
/// one after the other: entry(LatheLaunch, const LatheStage *, int launches,
/// int stages), where a launch has as many stages as entries of its own. The
/// step counts arrivals in the last of the counters.
#define LATHE_STAGE_OPERANDS 16
struct LatheStage {
  int kernel; ///< its index in the plan
  int padding;
  void *operands[LATHE_STAGE_OPERANDS];
};

/// Where a dense weight's values come from.
enum { LATHE_PACK_F32, LATHE_PACK_F16, LATHE_PACK_BF16 };

/// A piece of a weight to be packed or filled: the operand of the entries
/// `pack` and `fill` of compiler/device/cuda/runtime.cu. Rows are those of the
/// piece; `packed` is where its first tile goes.
struct LathePack {
  const unsigned char *data;        ///< as in runtime/base/Weight.h
  const unsigned short *scales;     ///< Int4
  const unsigned char *zeros;       ///< Int4, asymmetric
  const unsigned char *blockScales; ///< NvFp4
  void *packed;
  unsigned long long seed; ///< fill only
  float scale;             ///< fill only: of a code, or of dense values
  int format;              ///< a CudaFormat
  int source;              ///< of dense values
  int rows, columns;
  int group; ///< columns per scale
  int grain, asymmetric;
};

/// How to choose tokens, as in runtime/engine/Sampler.h; in device memory, so
/// that a captured graph reads new values every time it is played.
struct LatheSampling {
  float temperature; ///< 0: the highest logit
  int topK;          ///< 0: off
  float topP;        ///< 1: off
  float minP;        ///< 0: off
  unsigned long long seed;
  int vocab;      ///< ids to choose from; logits from there on are padding
  int stride;     ///< floats from one row of logits to the next
  const int *ids; ///< the token of each logit; null: its number
};

/// What the choice for a row of logits came to. Unless it is
/// LATHE_SAMPLE_CHOSEN, the token is 0.
enum {
  LATHE_SAMPLE_CHOSEN,
  LATHE_SAMPLE_NAN,      ///< a logit is NaN
  LATHE_SAMPLE_INFINITE, ///< a logit is plus infinity
  LATHE_SAMPLE_NOTHING,  ///< all logits are minus infinity
};

/// Counters for "the last block to arrive combines"; the last one is the
/// persistent step's.
#define LATHE_COUNTERS 16384

/// Rows of the ring that holds the inputs of a short convolution: position p
/// is row p % LATHE_CONV_RING. A decode step of at most 8 tokens never
/// overwrites one of the last 7 positions that it or another block reads.
#define LATHE_CONV_RING 16

#endif // LATHE_RUNTIME_BASE_CUDAABI_H
