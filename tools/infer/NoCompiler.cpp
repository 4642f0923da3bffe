//===- NoCompiler.cpp - what a runtime-only build says instead ------------===//

#include "tools/infer/CompileModel.h"

namespace lathe::cli {

static Status needsCompiler() {
  return usageError("this is a runtime-only build without the compiler: give "
                    "it a bundle (infer compile MODEL -o BUNDLE makes one "
                    "elsewhere), or use the release build");
}

StatusOr<std::unique_ptr<CompiledModel>>
compileFor(const ModelOptions &, const ModelFiles &, const std::string &, int) {
  return needsCompiler();
}

StatusOr<std::unique_ptr<CompiledModel>>
planFor(const ModelOptions &, const ModelFiles &, const std::string &, int) {
  return needsCompiler();
}

Status canCompileCuda() { return needsCompiler(); }

} // namespace lathe::cli
