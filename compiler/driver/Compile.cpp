#include "compiler/driver/Compile.h"

#include "compiler/cache/ObjectCache.h"
#include "compiler/driver/Lower.h"
#include "compiler/jit/KernelCompiler.h"

#include <chrono>

namespace lathe {

using Clock = std::chrono::steady_clock;

static double millisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start)
      .count();
}

namespace {

class CompiledKernels : public KernelProvider {
public:
  CompiledKernels(std::unique_ptr<KernelCompiler> compiler,
                  KernelCompiler::Kernels kernels)
      : compiler(std::move(compiler)), kernels(std::move(kernels)) {}

  StatusOr<LatheKernel> kernel(const std::string &name) override {
    auto it = kernels.find(name);
    if (it == kernels.end())
      return internalError("no kernel named " + name + " was compiled");
    return it->second;
  }

private:
  std::unique_ptr<KernelCompiler> compiler; // owns the code
  KernelCompiler::Kernels kernels;
};

} // namespace

StatusOr<std::unique_ptr<CompiledModel>>
planModel(const ModelInput &input, const CompileOptions &options,
          const std::string &target) {
  auto result = std::make_unique<CompiledModel>();
  LATHE_RETURN_IF_ERROR(planAndEmit(input, options, target, *result).status());
  return result;
}

StatusOr<std::unique_ptr<CompiledModel>>
compileModel(const ModelInput &input, const CompileOptions &options) {
  auto result = std::make_unique<CompiledModel>();
  LATHE_ASSIGN_OR_RETURN(std::vector<EmittedKernel> emitted,
                         planAndEmit(input, options, "cpu", *result));
  auto start = Clock::now();
  LATHE_ASSIGN_OR_RETURN(
      auto compiler,
      KernelCompiler::create(options.target, options.cache, options.threads));
  std::vector<KernelSource> sources;
  for (EmittedKernel &kernel : emitted)
    sources.push_back({kernel.name, std::move(kernel.text)});
  LATHE_ASSIGN_OR_RETURN(KernelCompiler::Kernels kernels,
                         compiler->compile(sources));
  KernelCompilerStats stats = compiler->stats();
  result->stats.kernels = sources.size();
  result->stats.cacheHits = stats.cacheHits;
  if (!stats.cacheError.ok())
    result->stats.cacheProblem = messageOf(stats.cacheError);
  result->kernels = std::make_unique<CompiledKernels>(std::move(compiler),
                                                      std::move(kernels));
  result->stats.kernelMs = millisecondsSince(start);
  return result;
}

} // namespace lathe
