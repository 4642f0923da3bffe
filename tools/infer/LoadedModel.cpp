#include "tools/infer/LoadedModel.h"

#include "runtime/engine/DraftHeadWeights.h"
#include "tools/infer/BenchProfile.h"
#include "tools/infer/CompileModel.h"
#include "tools/infer/CudaDevice.h"
#include "tools/infer/DraftVocab.h"
#include "tools/infer/Host.h"

#include <chrono>
#include <cstdio>

namespace lathe::cli {

namespace {

constexpr int64_t kDefaultContext = 4096;

using Clock = std::chrono::steady_clock;

} // namespace

StatusOr<int64_t> prefillChunkOf(const ModelOptions &options, bool cpu) {
  const int64_t most = cpu ? 512 : 8192, usual = cpu ? 256 : 1024;
  if (options.prefillChunk == 0)
    return usual;
  if (options.prefillChunk < 1 || options.prefillChunk > most)
    return usageError("--prefill-chunk: expected 1 to " + std::to_string(most) +
                      ", found " + std::to_string(options.prefillChunk));
  return options.prefillChunk;
}

/// The positions to make room for: a bundle may have been planned for fewer.
static StatusOr<int64_t> contextOf(const ModelOptions &options,
                                   const LoadedModel &model) {
  const Bundle *bundle = model.files->bundle();
  const int64_t most = bundle ? bundle->context : model.compiled->maxPositions;
  if (bundle && options.context > most)
    return usageError("--ctx: this bundle was compiled for at most " +
                      std::to_string(most) +
                      " positions; compile it again "
                      "with a larger --ctx");
  if (options.context > 0)
    return options.context;
  return bundle ? most : std::min(kDefaultContext, most);
}

/// The GPU that the options ask for; null for the CPU. With "auto" a GPU that
/// cannot be used is passed over, with a word where the user may not know why.
static StatusOr<std::unique_ptr<cuda::Context>>
chooseDevice(const ModelOptions &options) {
  if (options.device == "cpu")
    return nullptr;
  const bool bundle = options.synthetic.empty() && isBundle(options.directory);
  if (options.device != "auto" || bundle)
    return openDevice(options.device == "auto" ? "cuda" : options.device);
  auto context = openDevice("cuda");
  if (!context.ok())
    return nullptr;
  Status status = canCompileCuda();
  if (status.ok() && (*context)->device().major < 9)
    status = capacityError("the kernels need compute capability 9.0 or later");
  if (!status.ok()) {
    if (!options.quiet)
      std::fprintf(stderr, "running on the CPU, although there is a %s: %s\n",
                   (*context)->device().name.c_str(),
                   messageOf(status).c_str());
    return nullptr;
  }
  return context;
}

static StatusOr<CudaTarget> targetOf(const cuda::DeviceInfo &device) {
  return cudaTargetFor(device.major, device.minor);
}

/// Opens the model for the chosen device.
static StatusOr<LoadedModel> open(const ModelOptions &options) {
  LoadedModel model;
  model.threads = options.threads > 0 ? options.threads : coreCount();
  LATHE_ASSIGN_OR_RETURN(model.cuda, chooseDevice(options));
  if (!model.cuda && options.synthetic.empty() && isBundle(options.directory))
    return usageError(options.directory +
                      ": a bundle runs on a GPU; for the CPU give the "
                      "checkpoint");
  ChooseTarget choose;
  if (model.cuda)
    choose = [&device = model.cuda->device()](std::string_view arch) {
      auto target = parseCudaTarget(arch);
      return target.ok() && runsOn(*target, device.major, device.minor);
    };
  LATHE_ASSIGN_OR_RETURN(model.files, ModelFiles::open(options, choose));
  model.device = model.cuda ? model.cuda->device().name : "cpu";
  return model;
}

/// A bundle's target as the compiler would have left it.
static std::unique_ptr<CompiledModel> fromBundle(const Bundle &bundle) {
  auto compiled = std::make_unique<CompiledModel>();
  compiled->modelType = bundle.model.modelType;
  compiled->vocab = bundle.model.vocab;
  compiled->hidden = bundle.model.hidden;
  compiled->maxPositions = bundle.model.maxPositions;
  compiled->hasMtp = bundle.model.hasMtp;
  compiled->plan = bundle.targets.front().plan;
  compiled->images = bundle.targets.front().images;
  compiled->stats.kernels = compiled->images.size();
  return compiled;
}

/// Fills `compiled`: the code, or with `plan` only what it will need.
static Status compile(const ModelOptions &options, LoadedModel &model,
                      bool plan) {
  if (model.files->bundle()) {
    model.compiled = fromBundle(*model.files->bundle());
    return checkProfile(options, model.compiled->plan.profile);
  }
  std::string target = "cpu";
  int sms = 0;
  if (model.cuda) {
    LATHE_ASSIGN_OR_RETURN(CudaTarget cuda, targetOf(model.cuda->device()));
    target = cuda.arch;
    sms = model.cuda->device().sms;
  }
  LATHE_ASSIGN_OR_RETURN(model.compiled,
                         plan ? planFor(options, *model.files, target, sms)
                              : compileFor(options, *model.files, target, sms));
  return absl::OkStatus();
}

/// For an architecture of which there need not be a device.
static StatusOr<LoadedModel> planForTarget(ModelOptions options,
                                           const std::string &target) {
  LATHE_ASSIGN_OR_RETURN(CudaTarget cuda, parseCudaTarget(target));
  options.device = "cpu";
  LATHE_ASSIGN_OR_RETURN(LoadedModel model, open(options));
  LATHE_ASSIGN_OR_RETURN(model.compiled,
                         planFor(options, *model.files, cuda.arch, 0));
  model.device = cuda.arch;
  return model;
}

StatusOr<LoadedModel> planOnly(const ModelOptions &options,
                               const std::string &target, MemoryPlan &memory,
                               int64_t &available) {
  LoadedModel model;
  if (target.empty()) {
    LATHE_ASSIGN_OR_RETURN(model, open(options));
    LATHE_RETURN_IF_ERROR(compile(options, model, true));
  } else {
    LATHE_ASSIGN_OR_RETURN(model, planForTarget(options, target));
  }
  LATHE_ASSIGN_OR_RETURN(int64_t context, contextOf(options, model));
  memory = planMemory(model.compiled->plan, context, model.threads);
  available = target.empty() ? availableMemory() : memory.total;
  if (model.cuda) {
    LATHE_ASSIGN_OR_RETURN(cuda::MemoryInfo info, model.cuda->memory());
    available = info.freeBytes;
  }
  return model;
}

/// The tokens of the draft head's rows; none where there is no such head.
static StatusOr<std::vector<int32_t>> draftIdsOf(const ModelOptions &options,
                                                 const LoadedModel &model) {
  const PlannedEntry *head = model.compiled->plan.find("draft_head", 1);
  if (!head)
    return std::vector<int32_t>();
  LATHE_ASSIGN_OR_RETURN(DraftVocab vocab, parseDraftVocab(options.draftVocab));
  LATHE_ASSIGN_OR_RETURN(auto tokenizer, model.files->tokenizer());
  return draftIds(vocab, head->outputs[0].width,
                  tokenizer ? &*tokenizer : nullptr);
}

/// How rounds go with this model: without an MTP layer drafts come from the
/// text so far, which a user who asked for MTP is told.
static Status settleSpec(const ModelOptions &options, LoadedModel &model) {
  LATHE_ASSIGN_OR_RETURN(model.spec, parseSpec(options.spec));
  // A bundle may have been compiled without rounds.
  bool any = false;
  for (int64_t tokens : stepTokens(model.spec))
    any |= tokens > 1 && model.engine->canVerify(tokens);
  if (options.spec == "auto" && !any)
    model.spec = {};
  const std::string &problem = model.compiled->mtpProblem;
  if (problem.empty())
    return absl::OkStatus();
  if (model.spec.mode == SpecOptions::Mode::Mtp)
    model.spec.mode = SpecOptions::Mode::Lookup;
  if (!options.quiet)
    std::fprintf(stderr, "drafts come from the text so far only: %s\n",
                 problem.c_str());
  return absl::OkStatus();
}

static Status createCpu(const ModelOptions &options, int64_t context,
                        const LoadProgress &progress, LoadedModel &model) {
  EngineOptions engine;
  engine.threads = model.threads;
  engine.context = context;
  LATHE_ASSIGN_OR_RETURN(engine.prefillChunk, prefillChunkOf(options, true));
  engine.progress = progress;
  LATHE_RETURN_IF_ERROR(
      checkFits(planMemory(model.compiled->plan, context, model.threads),
                availableMemory()));
  auto weights = model.files->weights();
  const Plan &plan = model.compiled->plan;
  LATHE_ASSIGN_OR_RETURN(std::vector<int32_t> ids, draftIdsOf(options, model));
  auto withDraft = withDraftHead(*weights, plan, ids);
  LATHE_ASSIGN_OR_RETURN(
      auto created,
      CpuEngine::create(plan, *model.compiled->kernels, *withDraft, engine));
  LATHE_RETURN_IF_ERROR(created->setDraftIds(std::move(ids)));
  model.cpuEngine = created.get();
  model.engine = std::move(created);
  return absl::OkStatus();
}

static Status createCuda(const ModelOptions &options, int64_t context,
                         const LoadProgress &progress, LoadedModel &model) {
  // The engine checks too, but by then it has loaded its kernels.
  LATHE_ASSIGN_OR_RETURN(cuda::MemoryInfo memory, model.cuda->memory());
  LATHE_RETURN_IF_ERROR(
      checkFits(planMemory(model.compiled->plan, context, model.threads),
                memory.freeBytes));
  CudaEngineOptions engine;
  engine.context = context;
  engine.prefillChunk = model.compiled->plan.maxTokens("trunk");
  engine.loadThreads = std::min(model.threads, 4);
  engine.synthetic = model.files->isSynthetic();
  engine.programmatic = !options.noOverlap;
  engine.entry = options.entry == "launches"     ? StepEntry::Launches
                 : options.entry == "persistent" ? StepEntry::Persistent
                                                 : StepEntry::Auto;
  engine.progress = progress;
  auto weights = model.files->weights();
  const Plan &plan = model.compiled->plan;
  LATHE_ASSIGN_OR_RETURN(std::vector<int32_t> ids, draftIdsOf(options, model));
  auto withDraft = withDraftHead(*weights, plan, ids);
  LATHE_ASSIGN_OR_RETURN(auto created,
                         CudaEngine::create(*model.cuda, plan,
                                            model.compiled->images,
                                            withDraft.get(), engine));
  LATHE_RETURN_IF_ERROR(created->setDraftIds(std::move(ids)));
  model.cudaEngine = created.get();
  model.engine = std::move(created);
  return absl::OkStatus();
}

static StatusOr<LoadedModel> loadOnce(const ModelOptions &options) {
  LATHE_ASSIGN_OR_RETURN(LoadedModel model, open(options));
  LATHE_RETURN_IF_ERROR(compile(options, model, false));
  LATHE_ASSIGN_OR_RETURN(int64_t context, contextOf(options, model));
  const bool show = stderrIsTerminal() && !options.quiet;
  LoadProgress progress;
  if (show)
    progress = [](int64_t done, int64_t total) {
      std::fprintf(stderr, "\rloading %3d %%",
                   int(100.0 * double(done) / double(total)));
    };
  const auto start = Clock::now();
  LATHE_RETURN_IF_ERROR(model.cuda
                            ? createCuda(options, context, progress, model)
                            : createCpu(options, context, progress, model));
  model.loadMs =
      std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  if (show)
    std::fprintf(stderr, "\r\033[K");
  LATHE_RETURN_IF_ERROR(settleSpec(options, model));
  return model;
}

StatusOr<LoadedModel> loadModel(const ModelOptions &options) {
  auto model = loadOnce(options);
  if (model.ok() || options.spec != "auto" || exitCode(model.status()) != 4)
    return model;
  // The MTP layer may be what does not fit, and nobody asked for it.
  ModelOptions plain = options;
  plain.spec = "none";
  auto without = loadOnce(plain);
  if (without.ok() && !options.quiet)
    std::fprintf(stderr, "without speculation, for which there is no room\n");
  return without;
}

} // namespace lathe::cli
