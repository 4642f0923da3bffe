//===- NoCompiler.cpp - verbs that a runtime-only build lacks -------------===//

#include "tools/infer/Verbs.h"

namespace lathe::cli {

static Status needsCompiler(const char *verb) {
  return usageError(std::string("infer ") + verb +
                    ": this is a runtime-only build without the compiler; use "
                    "the release build");
}

Status run(const RunOptions &) { return needsCompiler("run"); }
Status bench(const BenchOptions &) { return needsCompiler("bench"); }
Status plan(const PlanOptions &) { return needsCompiler("plan"); }

} // namespace lathe::cli
