#include "tools/infer/LoadedModel.h"

#include "compiler/driver/CheckpointModel.h"
#include "runtime/memory/SyntheticWeights.h"
#include "tools/infer/Host.h"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>

namespace lathe::cli {

namespace {

constexpr int64_t kDefaultContext = 4096;

using Clock = std::chrono::steady_clock;

} // namespace

static StatusOr<WeightFormat> parseFormat(const std::string &name) {
  for (WeightFormat format :
       {WeightFormat::F32, WeightFormat::F16, WeightFormat::BF16,
        WeightFormat::Int4, WeightFormat::NvFp4})
    if (name == nameOf(format))
      return format;
  return usageError("--format: expected f32, f16, bf16, int4 or nvfp4, found " +
                    name);
}

StatusOr<std::unique_ptr<ModelFiles>>
ModelFiles::open(const ModelOptions &options) {
  std::unique_ptr<ModelFiles> files(new ModelFiles);
  if (!options.synthetic.empty()) {
    LATHE_ASSIGN_OR_RETURN(files->format, parseFormat(options.format));
    LATHE_ASSIGN_OR_RETURN(files->headFormat,
                           parseFormat(options.headFormat.empty()
                                           ? options.format
                                           : options.headFormat));
    LATHE_ASSIGN_OR_RETURN(files->config,
                           JsonDocument::read(options.synthetic));
    return files;
  }
  LATHE_ASSIGN_OR_RETURN(files->checkpoint,
                         Checkpoint::open(options.directory));
  LATHE_ASSIGN_OR_RETURN(
      files->config,
      JsonDocument::parse(files->checkpoint->configText(), "config.json"));
  return files;
}

/// Everything is quantised but what quantisers leave alone: embeddings that
/// are not the head, and projections of a few rows.
StatusOr<WeightDesc> ModelFiles::describeSynthetic(std::string_view module,
                                                   int64_t rows,
                                                   int64_t cols) const {
  WeightDesc desc{format, rows, cols, 0, false};
  LATHE_ASSIGN_OR_RETURN(auto text, config->root().find("text_config"));
  LATHE_ASSIGN_OR_RETURN(
      bool rootTied, config->root().getBoolOr("tie_word_embeddings", false));
  LATHE_ASSIGN_OR_RETURN(bool tied,
                         (text ? *text : config->root())
                             .getBoolOr("tie_word_embeddings", rootTied));
  bool embedding = module == "embed_tokens";
  if (module == "lm_head" || (embedding && tied))
    desc.format = headFormat;
  else if (embedding || rows < 128 || cols % 32 != 0)
    desc.format = WeightFormat::BF16;
  if (desc.format == WeightFormat::NvFp4)
    desc.group = 16;
  if (desc.format == WeightFormat::Int4)
    desc.group = cols % 128 == 0 ? 128 : cols % 64 == 0 ? 64 : 32;
  return desc;
}

ModelInput ModelFiles::input() const {
  if (checkpoint)
    return inputOf(*checkpoint, config->root());
  ModelInput input{config->root(), true, nullptr};
  input.describe = [this](std::string_view module, int64_t rows, int64_t cols) {
    return describeSynthetic(module, rows, cols);
  };
  return input;
}

std::unique_ptr<WeightSource> ModelFiles::weights() const {
  if (checkpoint)
    return weightsOf(*checkpoint);
  return std::make_unique<SyntheticWeights>();
}

StatusOr<GenerationConfig> ModelFiles::generation() const {
  if (checkpoint)
    return readGenerationConfig(checkpoint->directory());
  return parseGenerationConfig(config->root(), nullptr);
}

StatusOr<std::optional<Tokenizer>> ModelFiles::tokenizer() const {
  if (!checkpoint)
    return std::optional<Tokenizer>();
  std::string path = checkpoint->directory() + "/tokenizer.json";
  if (!std::filesystem::exists(path))
    return std::optional<Tokenizer>();
  LATHE_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::load(path));
  return std::optional<Tokenizer>(std::move(tokenizer));
}

static StatusOr<CompileOptions> compileOptions(const ModelOptions &options,
                                               LoadedModel &model) {
  CompileOptions compile;
  compile.prefillTokens = options.prefillChunk;
  compile.prefillForm = options.prefillForm;
  compile.strict = options.strict;
  compile.graphFile = options.graph;
  compile.threads = model.threads;
  if (options.prefillChunk < 1 || options.prefillChunk > 512)
    return usageError("--prefill-chunk: expected 1 to 512, found " +
                      std::to_string(options.prefillChunk));
  LATHE_ASSIGN_OR_RETURN(compile.target, hostTarget(options.isa == "avx2"));
  if (!options.isa.empty() && compile.target.name != options.isa)
    return usageError("--isa: expected avx2 or avx512, and a CPU that has it; "
                      "this one offers " +
                      compile.target.name);
  if (!options.noCache) {
    std::string directory = options.cacheDirectory.empty()
                                ? defaultCacheDirectory()
                                : options.cacheDirectory;
    auto cache = directory.empty()
                     ? StatusOr<std::unique_ptr<ObjectCache>>(
                           usageError("neither HOME nor XDG_CACHE_HOME is set"))
                     : ObjectCache::open(directory + "/kernels");
    if (cache.ok())
      model.cache = *std::move(cache);
    else if (!options.quiet)
      std::fprintf(stderr, "cache disabled: %s\n",
                   messageOf(cache.status()).c_str());
  }
  compile.cache = model.cache.get();
  if (options.dump.empty())
    return compile;
  const std::string stage = options.dump[0], folder = options.dump[1];
  std::filesystem::create_directories(folder);
  compile.dump = [stage, folder](std::string_view at, std::string_view name,
                                 std::string_view text) {
    if (stage != "all" && stage != at)
      return;
    std::string file = name.empty() ? std::string(at) + ".mlir"
                                    : std::string(name) + "." + std::string(at);
    std::ofstream(folder + "/" + file) << text;
  };
  return compile;
}

static Status checkDump(const ModelOptions &options) {
  if (options.dump.empty())
    return absl::OkStatus();
  for (const char *stage : {"graph", "fused", "kernel", "plan", "cpp", "all"})
    if (options.dump[0] == stage)
      return absl::OkStatus();
  return usageError("--dump: expected graph, fused, kernel, plan, cpp or all, "
                    "found " +
                    options.dump[0]);
}

static int64_t contextOf(const ModelOptions &options,
                         const CompiledModel &compiled) {
  return options.context > 0 ? options.context
                             : std::min(kDefaultContext, compiled.maxPositions);
}

static StatusOr<CompileOptions> prepare(const ModelOptions &options,
                                        LoadedModel &model) {
  LATHE_RETURN_IF_ERROR(checkDump(options));
  model.threads = options.threads > 0 ? options.threads : coreCount();
  LATHE_ASSIGN_OR_RETURN(model.files, ModelFiles::open(options));
  return compileOptions(options, model);
}

StatusOr<LoadedModel> planOnly(const ModelOptions &options,
                               MemoryPlan &memory) {
  LoadedModel model;
  LATHE_ASSIGN_OR_RETURN(CompileOptions compile, prepare(options, model));
  LATHE_ASSIGN_OR_RETURN(model.compiled,
                         planModel(model.files->input(), compile));
  memory = planMemory(model.compiled->plan, contextOf(options, *model.compiled),
                      model.threads);
  return model;
}

StatusOr<LoadedModel> loadModel(const ModelOptions &options) {
  LoadedModel model;
  LATHE_ASSIGN_OR_RETURN(CompileOptions compile, prepare(options, model));
  LATHE_ASSIGN_OR_RETURN(model.compiled,
                         compileModel(model.files->input(), compile));
  EngineOptions engine;
  engine.threads = model.threads;
  engine.context = contextOf(options, *model.compiled);
  engine.prefillChunk = options.prefillChunk;
  LATHE_RETURN_IF_ERROR(
      checkFits(planMemory(model.compiled->plan, engine.context, model.threads),
                availableMemory()));
  const bool progress = stderrIsTerminal() && !options.quiet;
  if (progress)
    engine.progress = [](int64_t done, int64_t total) {
      std::fprintf(stderr, "\rloading %3d %%",
                   int(100.0 * double(done) / double(total)));
    };
  auto start = Clock::now();
  auto weights = model.files->weights();
  LATHE_ASSIGN_OR_RETURN(model.engine, Engine::create(model.compiled->plan,
                                                      *model.compiled->kernels,
                                                      *weights, engine));
  model.loadMs =
      std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  if (progress)
    std::fprintf(stderr, "\r\033[K");
  return model;
}

} // namespace lathe::cli
