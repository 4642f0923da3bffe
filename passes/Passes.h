//===- Passes.h - the passes and the pipeline -------------------*- C++ -*-===//

#ifndef LATHE_PASSES_PASSES_H
#define LATHE_PASSES_PASSES_H

#include "ir/graph/Graph.h"
#include "ir/kernel/Kernel.h"
#include "ir/plan/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

#include <functional>
#include <string>
#include <vector>

namespace lathe {

#define GEN_PASS_DECL
#define GEN_PASS_REGISTRATION
#include "passes/Passes.h.inc"

/// What the pipeline is asked for.
struct PipelineOptions {
  std::vector<int64_t> decodeTokens = {1};
  int64_t prefillTokens = 256;
  /// How a prefill holds activations: see specialize-tokens.
  std::string prefillForm = "mixed";
  std::string decodeForm = "mixed"; ///< likewise, on a GPU
  /// "cpu", or a CUDA architecture ("sm_90").
  std::string target = "cpu";
  int64_t sms = 0; ///< multiprocessors; 0: a common card's
  /// The CUDA architecture that kernels are planned for, and the most shared
  /// memory of a block; empty and 0: those of `target`.
  std::string planTarget;
  int64_t planShared = 0;
  /// Fail when an operation misses its fused kernel.
  bool strict = false;
  bool replay = false; ///< states that take back tokens: see replay-states
  /// See draft-head; no rows: drafts use the head.
  int64_t draftRows = 0;
  std::string draftFormat = "full";
};

/// Called with a stage's name ("graph", "fused", "kernel", "plan") and the
/// module as it stands after that stage.
using StageObserver =
    std::function<void(llvm::StringRef stage, mlir::ModuleOp module)>;

/// Lowers a module of graph functions to plan entries and kernel functions, in
/// place. Problems are reported as diagnostics of the module's context.
mlir::LogicalResult runPipeline(mlir::ModuleOp module,
                                const PipelineOptions &options,
                                const StageObserver &observe = nullptr);

} // namespace lathe

#endif // LATHE_PASSES_PASSES_H
