//===- EmittedKernel.h - a kernel as text -----------------------*- C++ -*-===//

#ifndef LATHE_COMPILER_EMIT_EMITTEDKERNEL_H
#define LATHE_COMPILER_EMIT_EMITTEDKERNEL_H

#include <cstdint>
#include <string>
#include <vector>

namespace lathe {

/// One CUDA entry; runtime/artifact/Plan.h's PlannedStage has the same.
struct EmittedStage {
  std::string entry{};
  int32_t threads = 0;
  int32_t blocks = 1;
  int32_t tokensPerBlock = 0;
  int32_t dynamicShared = 0;
  int32_t grain = 0;
  int32_t resident = 1; ///< blocks per SM that bound the registers
  int32_t twins = 1;    ///< neighbouring blocks that run together: 1 or 2
};

/// What the persistent step (CudaStep.h) takes of a CUDA kernel.
struct EmittedStepPart {
  std::string text; ///< declarations at namespace scope, `call`'s own
  /// Statements that run the stage; with weights to fetch, for the other warps
  /// and for the one that fetches. `ops` are the operands.
  std::string call, fetch;
  int32_t sharedBytes = 0; ///< beside the rings
  int32_t unitBytes = 0;   ///< of what is fetched
  int32_t warps = 0;       ///< that may multiply
};

/// A kernel as text, with what it needs at run time.
struct EmittedKernel {
  std::string name; ///< CPU: the entry point's symbol
  std::string text;
  int64_t sharedBytes = 0;      ///< scratch of the team; CUDA: of the launch
  int64_t bytesPerPosition = 0; ///< CUDA: more of it per position of context
  int64_t localBytes = 0;       ///< CPU: scratch of each thread
  std::vector<EmittedStage> stages; ///< CUDA: in launch order
  std::vector<std::string> headers; ///< CUDA: device files that `text` includes
  EmittedStepPart step; ///< CUDA: `call` is empty if it cannot be part of one
};

} // namespace lathe

#endif // LATHE_COMPILER_EMIT_EMITTEDKERNEL_H
