#include "tools/infer/CompileModel.h"

#include "compiler/cache/ObjectCache.h"
#include "compiler/driver/CheckpointModel.h"
#include "compiler/driver/CompileCuda.h"
#include "runtime/engine/Speculator.h"
#include "tools/infer/DraftVocab.h"
#include "tools/infer/Host.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace lathe::cli {

static Status checkDump(const ModelOptions &options) {
  if (options.dump.empty())
    return absl::OkStatus();
  for (const char *stage :
       {"graph", "fused", "kernel", "plan", "cpp", "cuda", "all"})
    if (options.dump[0] == stage)
      return absl::OkStatus();
  return usageError("--dump: expected graph, fused, kernel, plan, cpp, cuda or "
                    "all, found " +
                    options.dump[0]);
}

static DumpSink dumpSink(const ModelOptions &options) {
  if (options.dump.empty())
    return nullptr;
  const std::string stage = options.dump[0], folder = options.dump[1];
  std::filesystem::create_directories(folder);
  return [stage, folder](std::string_view at, std::string_view name,
                         std::string_view text) {
    if (stage != "all" && stage != at)
      return;
    const std::string suffix = at == "cuda" ? "cu" : std::string(at);
    std::string file = name.empty() ? std::string(at) + ".mlir"
                                    : std::string(name) + "." + suffix;
    std::ofstream(folder + "/" + file) << text;
  };
}

static std::unique_ptr<ObjectCache> openCache(const ModelOptions &options) {
  if (options.noCache)
    return nullptr;
  std::string directory = options.cacheDirectory.empty()
                              ? defaultCacheDirectory()
                              : options.cacheDirectory;
  auto cache = directory.empty()
                   ? StatusOr<std::unique_ptr<ObjectCache>>(
                         usageError("neither HOME nor XDG_CACHE_HOME is set"))
                   : ObjectCache::open(directory + "/kernels");
  if (cache.ok())
    return *std::move(cache);
  if (!options.quiet)
    std::fprintf(stderr, "cache disabled: %s\n",
                 messageOf(cache.status()).c_str());
  return nullptr;
}

/// What the rounds of --spec need beyond plain decoding.
static Status addSpeculation(const ModelOptions &options,
                             CompileOptions &compile) {
  LATHE_ASSIGN_OR_RETURN(SpecOptions spec, parseSpec(options.spec));
  LATHE_ASSIGN_OR_RETURN(DraftVocab vocab, parseDraftVocab(options.draftVocab));
  if (spec.mode == SpecOptions::Mode::Off)
    return absl::OkStatus();
  compile.replay = true;
  compile.mtp = spec.mode != SpecOptions::Mode::Lookup;
  compile.draftVocab = vocab.size;
  compile.draftHead = options.draftHead;
  for (int64_t tokens : stepTokens(spec))
    if (std::ranges::find(compile.decodeTokens, tokens) ==
        compile.decodeTokens.end())
      compile.decodeTokens.push_back(tokens);
  return absl::OkStatus();
}

static StatusOr<CompileOptions> compileOptions(const ModelOptions &options,
                                               const std::string &target,
                                               int sms) {
  LATHE_RETURN_IF_ERROR(checkDump(options));
  const bool cpu = target == "cpu";
  CompileOptions compile;
  LATHE_ASSIGN_OR_RETURN(compile.prefillTokens, prefillChunkOf(options, cpu));
  compile.prefillForm = options.prefillForm;
  compile.decodeForm = options.decodeForm;
  compile.decodeTokens = options.decodeTokens;
  LATHE_RETURN_IF_ERROR(addSpeculation(options, compile));
  compile.strict = options.strict;
  compile.persistent = options.entry != "launches";
  compile.graphFile = options.graph;
  compile.threads = options.threads > 0 ? options.threads : coreCount();
  compile.sms = options.profile.empty() ? sms : options.profileSms;
  compile.profile = options.profile;
  if (cpu && options.kv == "f16")
    return usageError("--kv: f16 is for GPUs; the CPU keeps f32");
  compile.halfKv = !cpu && options.kv != "f32";
  compile.dump = dumpSink(options);
  if (!cpu)
    return compile;
  LATHE_ASSIGN_OR_RETURN(compile.target, hostTarget(options.isa == "avx2"));
  if (!options.isa.empty() && compile.target.name != options.isa)
    return usageError("--isa: expected avx2 or avx512, and a CPU that has it; "
                      "this one offers " +
                      compile.target.name);
  return compile;
}

static ModelInput inputOf(const ModelFiles &files) {
  if (files.files())
    return lathe::inputOf(*files.files(), files.configDocument().root());
  ModelInput input{files.configDocument().root(), true, nullptr, nullptr};
  input.describe = [&files](std::string_view module, int64_t rows,
                            int64_t cols) {
    return files.describeSynthetic(module, rows, cols);
  };
  return input;
}

/// LATHE_NVRTC in the environment is a file or folder and rules out all others;
/// else toolkits, then what tools/setup fetched, then the system's.
static StatusOr<std::shared_ptr<const Nvrtc>> findNvrtc() {
  auto variable = [](const char *name) {
    const char *value = std::getenv(name);
    return std::string(value ? value : "");
  };
  if (std::string only = variable("LATHE_NVRTC"); !only.empty())
    return Nvrtc::load({.candidates = {only}, .searchSystem = false});
  NvrtcOptions options;
  options.candidates = {variable("CUDA_HOME"), variable("CUDA_PATH")};
  if (std::string data = dataDirectory(); !data.empty())
    options.candidates.push_back(data + "/nvrtc");
  return Nvrtc::load(options);
}

StatusOr<std::unique_ptr<CompiledModel>> compileFor(const ModelOptions &options,
                                                    const ModelFiles &files,
                                                    const std::string &target,
                                                    int sms) {
  LATHE_ASSIGN_OR_RETURN(CompileOptions compile,
                         compileOptions(options, target, sms));
  auto cache = openCache(options);
  compile.cache = cache.get();
  if (target == "cpu")
    return compileModel(inputOf(files), compile);
  LATHE_ASSIGN_OR_RETURN(CudaTarget cuda, parseCudaTarget(target));
  LATHE_ASSIGN_OR_RETURN(auto nvrtc, findNvrtc());
  return compileCuda(inputOf(files), compile, cuda, nvrtc);
}

StatusOr<std::unique_ptr<CompiledModel>> planFor(const ModelOptions &options,
                                                 const ModelFiles &files,
                                                 const std::string &target,
                                                 int sms) {
  LATHE_ASSIGN_OR_RETURN(CompileOptions compile,
                         compileOptions(options, target, sms));
  return planModel(inputOf(files), compile, target);
}

Status canCompileCuda() { return findNvrtc().status(); }

} // namespace lathe::cli
