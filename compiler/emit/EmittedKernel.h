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
  int32_t resident = 1; ///< blocks per SM that bound the registers
};

/// A kernel as text, with what it needs at run time.
struct EmittedKernel {
  std::string name; ///< CPU: the entry point's symbol
  std::string text;
  int64_t sharedBytes = 0;      ///< scratch of the team; CUDA: of the launch
  int64_t bytesPerPosition = 0; ///< CUDA: more of it per position of context
  int64_t localBytes = 0;       ///< CPU: scratch of each thread
  std::vector<EmittedStage> stages; ///< CUDA: in launch order
};

} // namespace lathe

#endif // LATHE_COMPILER_EMIT_EMITTEDKERNEL_H
