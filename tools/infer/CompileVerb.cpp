//===- CompileVerb.cpp - infer compile: a bundle ahead of serving ---------===//

#include "tools/infer/CompileModel.h"
#include "tools/infer/Verbs.h"

#include "runtime/base/CudaTarget.h"

#include <cstdio>

namespace lathe::cli {

static Status addTarget(const CompileCommand &options, const ModelFiles &files,
                        const CudaTarget &target, Bundle &bundle) {
  LATHE_ASSIGN_OR_RETURN(auto compiled,
                         compileFor(options.model, files, target.arch, 0));
  bundle.model.modelType = compiled->modelType;
  bundle.model.vocab = compiled->vocab;
  bundle.model.hidden = compiled->hidden;
  bundle.model.maxPositions = compiled->maxPositions;
  bundle.model.hasMtp = compiled->hasMtp;
  if (!options.model.quiet)
    std::fprintf(
        stderr,
        "%s: %llu kernels in %.1f s, %llu from the cache, %llu "
        "entries spill\n",
        target.arch.c_str(),
        static_cast<unsigned long long>(compiled->stats.kernels),
        (compiled->stats.graphMs + compiled->stats.kernelMs) / 1e3,
        static_cast<unsigned long long>(compiled->stats.cacheHits),
        static_cast<unsigned long long>(compiled->stats.spillingEntries));
  bundle.targets.push_back(
      {target.arch, std::move(compiled->plan), std::move(compiled->images)});
  return absl::OkStatus();
}

/// What would make the work of compiling useless comes first.
static StatusOr<std::vector<CudaTarget>>
checkCommand(const CompileCommand &options) {
  LATHE_RETURN_IF_ERROR(checkProfile(options.model));
  std::vector<CudaTarget> targets;
  for (const std::string &arch : options.targets) {
    LATHE_ASSIGN_OR_RETURN(CudaTarget target, parseCudaTarget(arch));
    for (const CudaTarget &other : targets)
      if (other.arch == target.arch)
        return usageError("--target: " + arch + " is there twice");
    targets.push_back(target);
  }
  LATHE_RETURN_IF_ERROR(checkBundlePlace(options.output));
  LATHE_RETURN_IF_ERROR(canCompileCuda());
  return targets;
}

Status compile(const CompileCommand &options) {
  LATHE_ASSIGN_OR_RETURN(auto targets, checkCommand(options));
  LATHE_ASSIGN_OR_RETURN(auto files, ModelFiles::open(options.model, nullptr));
  if (files->bundle())
    return usageError(options.model.directory +
                      " is a bundle already; give the checkpoint");
  Bundle bundle;
  bundle.latheVersion = LATHE_VERSION;
  LATHE_ASSIGN_OR_RETURN(bundle.model, files->describe());
  for (const CudaTarget &target : targets)
    LATHE_RETURN_IF_ERROR(addTarget(options, *files, target, bundle));
  bundle.context = options.model.context > 0
                       ? options.model.context
                       : std::min<int64_t>(4096, bundle.model.maxPositions);
  return writeBundle(options.output, bundle);
}

} // namespace lathe::cli
