//===- GpuBackend.cpp - CUDA kernels on a GPU -----------------------------===//

#include "compiler/cache/ObjectCache.h"
#include "compiler/nvrtc/CudaCompiler.h"
#include "runtime/cuda/Module.h"
#include "runtime/cuda/Stream.h"
#include "tests/compiler/cuda/CudaBackend.h"
#include "tests/compiler/nvrtc/FindNvrtc.h"

#include <map>

namespace lathe::difftest {

namespace {

/// Launches are programmatic, as in the engine: a kernel that does not wait for
/// the stage before it goes wrong.
class GpuBackend : public CudaBackend {
public:
  static StatusOr<std::unique_ptr<GpuBackend>> create(const std::string &cache);

  std::string architecture(std::string_view) const override {
    return compiler->target().arch;
  }
  Status load(std::span<const CudaText> texts, std::string_view arch) override;
  Status run(std::span<const CudaCall> calls,
             CudaArguments &arguments) override;
  Status runStep(const CudaCall &call, std::span<const CudaStepLaunch> launches,
                 int stages, CudaArguments &arguments) override;

private:
  /// Host memory and its copy on the GPU.
  struct Mirror {
    void *host;
    size_t bytes;
    cuda::DeviceBuffer device;
  };

  /// What a launch is given: first the LatheStep, the scratch and the counters.
  struct Mirrors {
    std::vector<Mirror> all;

    static constexpr size_t kOperands = 3;
    cuda::DeviceAddress at(size_t i) const { return all[i].device.address(); }
    LatheLaunch launch(int capacity) const {
      return {reinterpret_cast<const LatheStep *>(at(0)),
              reinterpret_cast<char *>(at(1)),
              reinterpret_cast<unsigned *>(at(2)), capacity};
    }
  };

  StatusOr<Mirror> upload(void *host, size_t bytes);
  StatusOr<Mirrors> upload(CudaArguments &arguments);
  Status download(const Mirrors &mirrors);
  Status launch(const CudaCall &call, bool cooperative, void **arguments);

  std::unique_ptr<ObjectCache> cache;
  std::unique_ptr<CudaCompiler> compiler;
  std::unique_ptr<cuda::Context> context;
  cuda::Stream stream;
  std::vector<cuda::Module> modules;
  std::map<std::string, size_t> entries; ///< of modules
};

} // namespace

StatusOr<std::unique_ptr<GpuBackend>>
GpuBackend::create(const std::string &folder) {
  auto backend = std::make_unique<GpuBackend>();
  LATHE_ASSIGN_OR_RETURN(auto driver, cuda::Driver::load());
  LATHE_ASSIGN_OR_RETURN(backend->context,
                         cuda::Context::create(std::move(driver), 0));
  const cuda::DeviceInfo &device = backend->context->device();
  LATHE_ASSIGN_OR_RETURN(CudaTarget target,
                         cudaTargetFor(device.major, device.minor));
  LATHE_ASSIGN_OR_RETURN(backend->stream,
                         cuda::Stream::create(*backend->context));
  LATHE_ASSIGN_OR_RETURN(backend->cache, ObjectCache::open(folder));
  LATHE_ASSIGN_OR_RETURN(auto nvrtc, findNvrtc());
  LATHE_ASSIGN_OR_RETURN(
      backend->compiler,
      CudaCompiler::create(std::move(nvrtc), target, backend->cache.get(), 8));
  return backend;
}

Status GpuBackend::load(std::span<const CudaText> texts, std::string_view) {
  std::vector<CudaSource> sources;
  for (const CudaText &text : texts)
    sources.push_back({text.name, text.text});
  LATHE_ASSIGN_OR_RETURN(std::vector<CompiledImage> images,
                         compiler->compile(sources));
  for (size_t i = 0; i < texts.size(); ++i) {
    for (const std::string &entry : texts[i].entries)
      entries[entry] = modules.size();
    LATHE_ASSIGN_OR_RETURN(
        modules.emplace_back(),
        cuda::Module::load(*context, images[i].cubin, texts[i].name));
  }
  return absl::OkStatus();
}

StatusOr<GpuBackend::Mirror> GpuBackend::upload(void *host, size_t bytes) {
  Mirror mirror{host, bytes, {}};
  LATHE_ASSIGN_OR_RETURN(mirror.device,
                         cuda::DeviceBuffer::allocate(*context, bytes));
  if (bytes > 0)
    LATHE_RETURN_IF_ERROR(
        stream.copyToDevice(mirror.device.address(), host, bytes));
  return mirror;
}

Status GpuBackend::launch(const CudaCall &call, bool cooperative,
                          void **arguments) {
  LATHE_ASSIGN_OR_RETURN(
      cuda::Function function,
      modules[entries.at(call.entry)].function(call.entry, call.sharedBytes));
  return stream.launch(function,
                       {.gridX = unsigned(call.gridX),
                        .gridY = unsigned(call.gridY),
                        .threads = unsigned(call.threads),
                        .dynamicShared = unsigned(call.sharedBytes),
                        .programmatic = !cooperative,
                        .cooperative = cooperative},
                       arguments);
}

StatusOr<GpuBackend::Mirrors> GpuBackend::upload(CudaArguments &arguments) {
  Mirrors mirrors;
  auto add = [&](void *host, size_t bytes) -> Status {
    LATHE_ASSIGN_OR_RETURN(mirrors.all.emplace_back(), upload(host, bytes));
    return absl::OkStatus();
  };
  LATHE_RETURN_IF_ERROR(add(&arguments.step, sizeof arguments.step));
  std::vector<GuardedMemory *> memories = {&arguments.scratch,
                                           &arguments.counters};
  memories.insert(memories.end(), arguments.operands.begin(),
                  arguments.operands.end());
  // What a call does not need was never reserved.
  for (GuardedMemory *memory : memories)
    LATHE_RETURN_IF_ERROR(
        add(memory->data(), memory->data() ? memory->all() : 0));
  return mirrors;
}

Status GpuBackend::download(const Mirrors &mirrors) {
  for (const Mirror &mirror : mirrors.all)
    if (mirror.bytes > 0)
      LATHE_RETURN_IF_ERROR(stream.copyToHost(
          mirror.host, mirror.device.address(), mirror.bytes));
  return stream.synchronize();
}

Status GpuBackend::run(std::span<const CudaCall> calls,
                       CudaArguments &arguments) {
  LATHE_ASSIGN_OR_RETURN(Mirrors mirrors, upload(arguments));
  LatheLaunch ctx = mirrors.launch(arguments.capacity);
  std::vector<cuda::DeviceAddress> operands;
  for (size_t i = Mirrors::kOperands; i < mirrors.all.size(); ++i)
    operands.push_back(mirrors.at(i));
  std::vector<void *> parameters = {&ctx};
  for (cuda::DeviceAddress &operand : operands)
    parameters.push_back(&operand);
  for (const CudaCall &call : calls)
    LATHE_RETURN_IF_ERROR(launch(call, false, parameters.data()));
  return download(mirrors);
}

Status GpuBackend::runStep(const CudaCall &call,
                           std::span<const CudaStepLaunch> launches, int stages,
                           CudaArguments &arguments) {
  LATHE_ASSIGN_OR_RETURN(Mirrors mirrors, upload(arguments));
  std::vector<LatheStage> table;
  for (const CudaStepLaunch &from : launches) {
    LatheStage &stage = table.emplace_back(LatheStage{});
    stage.kernel = from.kernel;
    for (size_t i = 0; i < from.operands.size(); ++i)
      stage.operands[i] = reinterpret_cast<void *>(
          mirrors.at(Mirrors::kOperands + from.operands[i]));
  }
  LATHE_ASSIGN_OR_RETURN(
      Mirror stored, upload(table.data(), table.size() * sizeof(LatheStage)));
  LatheLaunch ctx = mirrors.launch(arguments.capacity);
  cuda::DeviceAddress address = stored.device.address();
  int count = int(table.size());
  void *parameters[] = {&ctx, &address, &count, &stages};
  LATHE_RETURN_IF_ERROR(launch(call, true, parameters));
  return download(mirrors);
}

StatusOr<CudaBackend *> theBackend(const std::string &cache) {
  static StatusOr<std::unique_ptr<GpuBackend>> backend =
      GpuBackend::create(cache);
  if (!backend.ok())
    return backend.status();
  return backend->get();
}

} // namespace lathe::difftest
