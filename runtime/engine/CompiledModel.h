//===- CompiledModel.h - a plan with its code -------------------*- C++ -*-===//
//
// What an engine needs of a model, whoever made it: the compiling driver, or
// the reader of a bundle.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_COMPILEDMODEL_H
#define LATHE_RUNTIME_ENGINE_COMPILEDMODEL_H

#include "runtime/artifact/Plan.h"
#include "runtime/engine/KernelProvider.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace lathe {

struct CompileStats {
  double graphMs = 0;  ///< building and lowering IR, printing C++
  double kernelMs = 0; ///< compiling or fetching, and linking
  uint64_t kernels = 0, cacheHits = 0;
  uint64_t spillingEntries = 0; ///< CUDA entries that spill registers
  std::string cacheProblem;     ///< why compiled kernels could not be kept
};

/// The plan must not move while an engine uses it.
struct CompiledModel {
  std::string modelType;
  int64_t vocab = 0, hidden = 0, maxPositions = 0;
  bool hasMtp = false;
  std::string mtpProblem; ///< why it has none although that was asked for
  Plan plan;
  std::unique_ptr<KernelProvider> kernels; ///< CPU only
  /// CUDA only: cubins by kernel, "runtime" for the runtime's own.
  std::map<std::string, std::string> images;
  CompileStats stats;
  std::vector<std::string> remarks; ///< what missed a fast path, and why
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_COMPILEDMODEL_H
