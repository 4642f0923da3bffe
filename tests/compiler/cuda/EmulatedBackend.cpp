//===- EmulatedBackend.cpp - CUDA kernels on this CPU ---------------------===//

#include "compiler/cache/ObjectCache.h"
#include "compiler/jit/KernelCompiler.h"
#include "compiler/jit/ObjectLoader.h"
#include "tests/compiler/cuda/EmulatorText.h"
#include "tests/compiler/driver/ModelShape.h"
#include "tests/kernels/cuda/emulator/Emulator.h"

#include <map>

namespace lathe::difftest {

namespace {

/// Each run takes the next of the emulator's orders of threads, warps and
/// blocks, so bits that depend on it differ from run to run.
class EmulatedBackend : public CudaBackend {
public:
  explicit EmulatedBackend(const std::string &cacheFolder)
      : cache(need(ObjectCache::open(cacheFolder))),
        compiler(need(
            KernelCompiler::create(need(hostTarget(false)), cache.get(), 2))),
        loader(need(ObjectLoader::create())) {}

  std::string architecture(std::string_view wanted) const override {
    return std::string(wanted);
  }
  Status load(std::span<const CudaText> texts, std::string_view arch) override;
  Status run(std::span<const CudaCall> calls,
             CudaArguments &arguments) override;
  Status runStep(const CudaCall &call, std::span<const CudaStepLaunch> launches,
                 int stages, CudaArguments &arguments) override;

private:
  using Entry = void (*)(const LatheLaunch *, void *const *);

  Status link(const CudaText &text, const std::string &object);
  Status launch(const CudaCall &call, bool together, CudaArguments &arguments,
                void *const *args);

  std::unique_ptr<ObjectCache> cache;
  std::unique_ptr<KernelCompiler> compiler;
  std::unique_ptr<ObjectLoader> loader;
  std::map<std::string, Entry> entries;
  unsigned runs = 0;
};

} // namespace

Status EmulatedBackend::link(const CudaText &text, const std::string &object) {
  LATHE_ASSIGN_OR_RETURN(ObjectLoader::ObjectId id, loader->add(object));
  LATHE_ASSIGN_OR_RETURN(void *emulator, loader->lookup(id, "latheEmulator"));
  *static_cast<EmulatorTable **>(emulator) = emulator::table();
  for (const std::string &entry : text.entries) {
    LATHE_ASSIGN_OR_RETURN(void *address, loader->lookup(id, "call_" + entry));
    entries[entry] = reinterpret_cast<Entry>(address);
  }
  return absl::OkStatus();
}

Status EmulatedBackend::load(std::span<const CudaText> texts,
                             std::string_view arch) {
  std::vector<KernelSource> sources;
  for (const CudaText &text : texts)
    sources.push_back({text.name, emulatorText(text, arch)});
  LATHE_ASSIGN_OR_RETURN(std::vector<std::string> objects,
                         compiler->compileObjects(sources));
  for (size_t i = 0; i < texts.size(); ++i)
    LATHE_RETURN_IF_ERROR(link(texts[i], objects[i]));
  return absl::OkStatus();
}

Status EmulatedBackend::launch(const CudaCall &call, bool together,
                               CudaArguments &arguments, void *const *args) {
  LatheLaunch ctx{&arguments.step,
                  reinterpret_cast<char *>(arguments.scratch.data()),
                  reinterpret_cast<unsigned *>(arguments.counters.data()),
                  arguments.capacity};
  emulator::Grid grid{.gridX = call.gridX,
                      .gridY = call.gridY,
                      .threads = call.threads,
                      .sharedBytes = call.sharedBytes,
                      .order = emulator::kOrders[runs % 3],
                      .seed = runs,
                      .together = together,
                      .twins = call.twins == 2};
  const Entry entry = entries.at(call.entry);
  std::string error = emulator::tryGrid(grid, [&] { entry(&ctx, args); });
  return error.empty() ? absl::OkStatus()
                       : internalError(call.entry + ": " + error);
}

Status EmulatedBackend::run(std::span<const CudaCall> calls,
                            CudaArguments &arguments) {
  std::vector<void *> args;
  for (GuardedMemory *memory : arguments.operands)
    args.push_back(memory->data());
  for (const CudaCall &call : calls)
    LATHE_RETURN_IF_ERROR(launch(call, false, arguments, args.data()));
  ++runs;
  return absl::OkStatus();
}

Status EmulatedBackend::runStep(const CudaCall &call,
                                std::span<const CudaStepLaunch> launches,
                                int stages, CudaArguments &arguments) {
  std::vector<LatheStage> table;
  for (const CudaStepLaunch &from : launches) {
    LatheStage &stage = table.emplace_back(LatheStage{});
    stage.kernel = from.kernel;
    for (size_t i = 0; i < from.operands.size(); ++i)
      stage.operands[i] = arguments.operands[from.operands[i]]->data();
  }
  int count = int(table.size());
  void *const args[] = {table.data(), &count, &stages};
  LATHE_RETURN_IF_ERROR(launch(call, true, arguments, args));
  ++runs;
  return absl::OkStatus();
}

StatusOr<CudaBackend *> theBackend(const std::string &cache) {
  static EmulatedBackend backend(cache);
  return &backend;
}

} // namespace lathe::difftest
