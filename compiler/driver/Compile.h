//===- Compile.h - from a model to a plan and its kernels -------*- C++ -*-===//
//
// The only place that knows all stages: checkpoint description -> graph IR ->
// passes -> C++ text -> machine code. Library users hand the result to
// runtime/engine; LLVM and MLIR stay behind this header.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DRIVER_COMPILE_H
#define LATHE_COMPILER_DRIVER_COMPILE_H

#include "compiler/jit/CpuTarget.h"
#include "runtime/artifact/Plan.h"
#include "runtime/base/Status.h"
#include "runtime/base/Weight.h"
#include "runtime/engine/CompiledModel.h"
#include "runtime/io/Json.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace lathe {

class ObjectCache;

/// Receives what a stage produced: "graph", "fused", "kernel", "plan" as one
/// .mlir text each, "cpp" or "cuda" once per kernel with `name` the kernel's.
using DumpSink = std::function<void(
    std::string_view stage, std::string_view name, std::string_view text)>;

struct CompileOptions {
  std::vector<int64_t> decodeTokens = {1};
  int64_t prefillTokens = 256;
  std::string prefillForm = "mixed"; ///< see passes/Passes.td
  std::string decodeForm = "mixed";  ///< likewise; on a GPU
  bool strict = false;
  /// Compile the MTP layer too, and so load its weights.
  bool mtp = false;
  bool replay = false; ///< states that take back tokens: see passes/Passes.td
  /// With MTP: how many tokens drafts choose from (-1: by cost), and the format
  /// of their head: full, int4, nvfp4, or empty: full where the head has 4
  /// bits, else int4. Where that is the head itself, drafts use it.
  int64_t draftVocab = -1;
  std::string draftHead;
  bool halfKv = false; ///< KV caches in f16 (CUDA only), else f32
  /// Compile decode steps as persistent kernels too (CUDA only).
  bool persistent = false;
  int threads = 1;
  int sms = 0; ///< multiprocessors of the GPU (CUDA only); 0: a common card's
  /// Plan every kernel for `sms` multiprocessors of this CUDA architecture,
  /// within profileLimits(), though the code is for another; empty: do not.
  std::string profile;
  CpuTarget target;             ///< compileModel() only
  ObjectCache *cache = nullptr; ///< may be null; not owned
  DumpSink dump;                ///< may be null
  std::string graphFile; ///< take graph IR from this .mlir file, not the family
};

/// What the compiler asks of a checkpoint; a synthetic model answers too.
struct ModelInput {
  JsonValue config; ///< root of config.json
  bool hasMtpWeights = false;
  /// The storage format of a weight by canonical module name and shape.
  std::function<StatusOr<WeightDesc>(std::string_view, int64_t, int64_t)>
      describe;
  /// Whether a module's weight is there in a supported format; may be null.
  /// An MTP layer that is not is left out, which CompiledModel::mtpProblem
  /// says.
  std::function<Status(std::string_view)> readable = nullptr;
};

/// Compiles for the CPU. Errors: modelError for what the checkpoint or the
/// graph file says, internalError when generated code does not compile.
StatusOr<std::unique_ptr<CompiledModel>>
compileModel(const ModelInput &input, const CompileOptions &options);

/// The same without machine code, for "cpu" or a CUDA architecture: enough to
/// compute memory.
StatusOr<std::unique_ptr<CompiledModel>>
planModel(const ModelInput &input, const CompileOptions &options,
          const std::string &target = "cpu");

} // namespace lathe

#endif // LATHE_COMPILER_DRIVER_COMPILE_H
