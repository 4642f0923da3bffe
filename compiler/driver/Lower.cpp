#include "compiler/driver/Lower.h"

#include "compiler/driver/PlanExport.h"
#include "compiler/emit/CpuEmitter.h"
#include "compiler/emit/CudaEmitter.h"
#include "compiler/emit/CudaStep.h"
#include "models/Registry.h"
#include "passes/Passes.h"
#include "runtime/base/CudaTarget.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"

#include <chrono>
#include <set>

using namespace mlir;

namespace lathe {

using Clock = std::chrono::steady_clock;

static double millisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start)
      .count();
}

namespace {

/// Turns diagnostics into the text of a Status.
class Diagnostics {
public:
  explicit Diagnostics(MLIRContext *context)
      : handler(context, [this](Diagnostic &diagnostic) {
          bool isError = diagnostic.getSeverity() == DiagnosticSeverity::Error;
          std::string text;
          llvm::raw_string_ostream stream(text);
          if (!isa<UnknownLoc>(diagnostic.getLocation()))
            stream << diagnostic.getLocation() << ": ";
          stream << diagnostic;
          if (isError)
            errors += (errors.empty() ? "" : "\n") + text;
          else
            remarks.push_back(text);
        }) {}

  std::string errors;
  std::vector<std::string> remarks;

private:
  ScopedDiagnosticHandler handler;
};

} // namespace

/// Builds the family's graph. An MTP layer that cannot be read is left out and
/// `problem` says why; one of the wrong shape is an error like any other.
static StatusOr<models::Model> buildFamily(MLIRContext &context,
                                           const ModelInput &input,
                                           const CompileOptions &options,
                                           std::string &problem) {
  models::WeightCatalog catalog = [&](std::string_view module, int64_t rows,
                                      int64_t cols) -> StatusOr<WeightDesc> {
    if (input.readable && module.starts_with("mtp."))
      if (Status status = input.readable(module); !status.ok()) {
        problem = messageOf(status);
        return WeightDesc{WeightFormat::BF16, rows, cols, 0, false};
      }
    return input.describe(module, rows, cols);
  };
  auto build = [&](bool mtp) {
    return models::buildModel(&context,
                              {input.config, mtp, catalog, options.halfKv});
  };
  if (!options.mtp || !input.hasMtpWeights) {
    if (options.mtp)
      problem = "the checkpoint has no MTP weights";
    return build(false);
  }
  LATHE_ASSIGN_OR_RETURN(models::Model model, build(true));
  if (!problem.empty())
    return build(false);
  if (!model.hasMtp)
    problem = "config.json names no MTP layer";
  return model;
}

static StatusOr<models::Model> buildGraph(MLIRContext &context,
                                          const ModelInput &input,
                                          const CompileOptions &options,
                                          std::string &mtpProblem) {
  LATHE_ASSIGN_OR_RETURN(models::Model model,
                         buildFamily(context, input, options, mtpProblem));
  if (options.graphFile.empty())
    return model;
  context.loadDialect<kernel::KernelDialect, plan::PlanDialect>();
  Diagnostics diagnostics(&context);
  model.module = parseSourceFile<ModuleOp>(options.graphFile, &context);
  if (!model.module)
    return modelError(diagnostics.errors);
  return model;
}

/// Bytes of the weights that a decode step reads.
static int64_t stepBytes(ModuleOp module) {
  int64_t bytes = 0;
  for (StringRef name : {"trunk", "head"})
    if (auto func = module.lookupSymbol<func::FuncOp>(name))
      func.walk([&](graph::LinearOp linear) {
        bytes += linear.getWeight().getType().getDesc().byteSize();
      });
  return bytes;
}

/// Fewer tokens to choose from are more drafts that miss; so many that a
/// draft's head costs less than a hundredth of the step are worth their cost.
static int64_t draftRowsByCost(WeightDesc draft, int64_t step) {
  constexpr int64_t kFewest = 16384, kShare = 128;
  const int64_t vocab = draft.rows;
  while (draft.rows > kFewest && draft.byteSize() > step / kShare)
    draft.rows =
        std::max(int64_t(llvm::bit_floor(uint64_t(draft.rows - 1))), kFewest);
  return std::min(draft.rows, vocab);
}

static void chooseDraftHead(ModuleOp module, const CompileOptions &options,
                            PipelineOptions &pipeline) {
  auto head = module.lookupSymbol<func::FuncOp>("head");
  if (!head || head.getBody().getOps<graph::LinearOp>().empty())
    return;
  graph::LinearOp linear = *head.getBody().getOps<graph::LinearOp>().begin();
  WeightDesc desc = linear.getWeight().getType().getDesc();
  const int64_t vocab = desc.rows;
  pipeline.draftFormat = options.draftHead.empty()
                             ? (desc.group > 0 ? "full" : "int4")
                             : options.draftHead;
  if (pipeline.draftFormat != "full") {
    desc.format = WeightFormat::NvFp4; // the sizes of int4 are about the same
    desc.group = 16;
    desc.cols *= pipeline.draftFormat == "int8" ? 2 : 1;
  }
  pipeline.draftRows = options.draftVocab < 0
                           ? draftRowsByCost(desc, stepBytes(module))
                           : std::min(options.draftVocab, vocab);
  if (pipeline.draftFormat == "full" && pipeline.draftRows == vocab)
    pipeline.draftRows = 0; // the head itself
}

static Status lower(ModuleOp module, const CompileOptions &options,
                    const std::string &target, CompiledModel &result,
                    PlannedProfile &profile) {
  PipelineOptions pipeline;
  pipeline.decodeTokens = options.decodeTokens;
  pipeline.prefillTokens = options.prefillTokens;
  pipeline.prefillForm = options.prefillForm;
  pipeline.decodeForm = options.decodeForm;
  pipeline.target = target;
  pipeline.sms = options.sms;
  if (!options.profile.empty()) {
    LATHE_ASSIGN_OR_RETURN(CudaTarget limits, profileLimits(options.profile));
    pipeline.planTarget = limits.arch;
    pipeline.planShared = limits.sharedPerBlock;
    if (pipeline.sms == 0)
      pipeline.sms = limits.defaultSms;
    profile = {limits.arch, int32_t(pipeline.sms)};
  }
  pipeline.strict = options.strict;
  pipeline.replay = options.replay;
  if (module.lookupSymbol("mtp"))
    chooseDraftHead(module, options, pipeline);
  StageObserver observe;
  if (options.dump)
    observe = [&](llvm::StringRef stage, ModuleOp current) {
      std::string text;
      llvm::raw_string_ostream stream(text);
      current.print(stream);
      options.dump({stage.data(), stage.size()}, "", text);
    };
  Diagnostics diagnostics(module.getContext());
  if (failed(verify(module)) || failed(runPipeline(module, pipeline, observe)))
    return modelError("the model cannot be lowered: " + diagnostics.errors);
  result.remarks = std::move(diagnostics.remarks);
  return absl::OkStatus();
}

static StatusOr<std::vector<EmittedKernel>>
emitKernels(ModuleOp module, const CompileOptions &options,
            const std::string &target) {
  const bool cpu = target == "cpu";
  CudaTarget limits;
  if (!cpu) {
    LATHE_ASSIGN_OR_RETURN(limits, options.profile.empty()
                                       ? parseCudaTarget(target)
                                       : profileLimits(options.profile));
  }
  std::vector<EmittedKernel> kernels;
  Diagnostics diagnostics(module.getContext());
  for (auto func : module.getOps<kernel::FuncOp>()) {
    auto emitted =
        cpu ? emitCpuKernel(func) : emitCudaKernel(func, limits.sharedPerBlock);
    if (failed(emitted))
      return modelError("the " + target + " back end cannot do this model: " +
                        diagnostics.errors);
    if (options.dump)
      options.dump(cpu ? "cpp" : "cuda", emitted->name, emitted->text);
    kernels.push_back(std::move(*emitted));
  }
  return kernels;
}

/// A persistent kernel for every decode step.
static Status addSteps(const CompileOptions &options, const std::string &target,
                       std::vector<EmittedKernel> &kernels, Plan &plan) {
  LATHE_ASSIGN_OR_RETURN(CudaTarget limits, parseCudaTarget(target));
  for (int64_t tokens : options.decodeTokens) {
    std::set<int32_t> used;
    bool complete = true;
    for (const char *function : {"trunk", "head"}) {
      const PlannedEntry *entry = plan.find(function, tokens);
      complete &= entry && !entry->prefill;
      if (entry)
        for (const PlannedLaunch &launch : entry->launches)
          used.insert(launch.kernel);
    }
    std::vector<CudaStepKernel> parts;
    std::vector<int32_t> covered;
    for (int32_t kernel : used)
      if (!kernels[size_t(kernel)].step.call.empty()) {
        parts.emplace_back(kernel, &kernels[size_t(kernel)]);
        covered.push_back(kernel);
      }
    auto step = emitCudaStep("step_" + std::to_string(tokens), parts,
                             {options.sms > 0 ? options.sms : limits.defaultSms,
                              limits.sharedPerBlock});
    if (!complete || !step)
      continue;
    if (options.dump)
      options.dump("cuda", step->name, step->text);
    plan.steps.push_back(
        {tokens, int32_t(plan.kernels.size()), std::move(covered)});
    plan.kernels.push_back(exportKernel(*step));
    kernels.push_back(std::move(*step));
  }
  return absl::OkStatus();
}

StatusOr<std::vector<EmittedKernel>> planAndEmit(const ModelInput &input,
                                                 const CompileOptions &options,
                                                 const std::string &target,
                                                 CompiledModel &result) {
  auto start = Clock::now();
  MLIRContext context(MLIRContext::Threading::DISABLED);
  LATHE_ASSIGN_OR_RETURN(
      models::Model model,
      buildGraph(context, input, options, result.mtpProblem));
  result.modelType = model.modelType;
  result.vocab = model.vocab;
  result.hidden = model.hidden;
  result.maxPositions = model.maxPositions;
  result.hasMtp = model.hasMtp;
  PlannedProfile profile;
  LATHE_RETURN_IF_ERROR(lower(*model.module, options, target, result, profile));
  LATHE_ASSIGN_OR_RETURN(std::vector<EmittedKernel> kernels,
                         emitKernels(*model.module, options, target));
  result.plan = exportPlan(*model.module, kernels, target);
  result.plan.profile = std::move(profile);
  // The blocks of a persistent step wait for each other: for all of a GPU.
  if (target != "cpu" && options.persistent && options.profile.empty())
    LATHE_RETURN_IF_ERROR(addSteps(options, target, kernels, result.plan));
  result.stats.graphMs = millisecondsSince(start);
  return kernels;
}

} // namespace lathe
