#include "compiler/driver/CompileCuda.h"

#include "compiler/cache/ObjectCache.h"
#include "compiler/device/DeviceFiles.h"
#include "compiler/driver/Lower.h"

#include <chrono>

namespace lathe {

using Clock = std::chrono::steady_clock;

/// The image that holds the runtime's own entries.
static constexpr char kRuntimeName[] = "runtime";
static constexpr char kRuntimeText[] =
    "#include \"compiler/device/cuda/runtime.cu\"\n"
    "#include \"compiler/device/cuda/measure.cu\"\n"
    "#include \"compiler/device/cuda/sample.cu\"\n"
    "#include \"compiler/device/cuda/round.cu\"\n";

/// Notes what each entry needs and checks that it can be launched within the
/// limits of `target`.
static Status takeResources(const CudaTarget &target,
                            const CompiledImage &image, PlannedKernel &kernel,
                            CompileStats &stats) {
  for (PlannedStage &stage : kernel.stages) {
    const EntryResources *entry = image.find(stage.entry);
    if (!entry)
      return internalError("kernel " + kernel.name + " has no entry " +
                           stage.entry);
    LATHE_RETURN_IF_ERROR(
        checkLaunch(target, *entry, stage.threads, stage.dynamicShared));
    stage.registers = entry->registers;
    stage.spillBytes = entry->spillBytes;
    stage.stackBytes = entry->stackBytes;
    stats.spillingEntries += entry->spillBytes > 0;
  }
  return absl::OkStatus();
}

StatusOr<std::unique_ptr<CompiledModel>>
compileCuda(const ModelInput &input, const CompileOptions &options,
            const CudaTarget &target, std::shared_ptr<const Nvrtc> nvrtc) {
  // Weights are streamed by the copy engine, and launches overlap.
  if (target.major < 9)
    return usageError(target.arch +
                      ": the kernels need sm_90 or later; use --device cpu");
  auto result = std::make_unique<CompiledModel>();
  LATHE_ASSIGN_OR_RETURN(std::vector<EmittedKernel> emitted,
                         planAndEmit(input, options, target.arch, *result));
  const auto start = Clock::now();
  LATHE_ASSIGN_OR_RETURN(auto compiler,
                         CudaCompiler::create(std::move(nvrtc), target,
                                              options.cache, options.threads));
  std::vector<CudaSource> sources;
  for (EmittedKernel &kernel : emitted)
    sources.push_back({kernel.name, std::move(kernel.text)});
  sources.push_back({kRuntimeName, kRuntimeText});
  LATHE_ASSIGN_OR_RETURN(std::vector<CompiledImage> images,
                         compiler->compile(sources));
  CudaTarget limits = target;
  if (!options.profile.empty()) {
    LATHE_ASSIGN_OR_RETURN(limits, profileLimits(options.profile));
  }
  for (size_t i = 0; i < emitted.size(); ++i)
    LATHE_RETURN_IF_ERROR(takeResources(
        limits, images[i], result->plan.kernels[i], result->stats));
  for (size_t i = 0; i < sources.size(); ++i)
    result->images[sources[i].name] = std::move(images[i].cubin);
  const CudaCompilerStats stats = compiler->stats();
  result->stats.kernels = sources.size();
  result->stats.cacheHits = stats.cacheHits;
  if (!stats.cacheError.ok())
    result->stats.cacheProblem = messageOf(stats.cacheError);
  result->stats.kernelMs =
      std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  return result;
}

} // namespace lathe
