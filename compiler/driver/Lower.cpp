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

static StatusOr<models::Model> buildGraph(MLIRContext &context,
                                          const ModelInput &input,
                                          const CompileOptions &options) {
  models::WeightCatalog catalog = input.describe;
  LATHE_ASSIGN_OR_RETURN(
      models::Model model,
      models::buildModel(&context,
                         {input.config, options.mtp && input.hasMtpWeights,
                          catalog, options.halfKv}));
  if (options.graphFile.empty())
    return model;
  context.loadDialect<kernel::KernelDialect, plan::PlanDialect>();
  Diagnostics diagnostics(&context);
  model.module = parseSourceFile<ModuleOp>(options.graphFile, &context);
  if (!model.module)
    return modelError(diagnostics.errors);
  return model;
}

static Status lower(ModuleOp module, const CompileOptions &options,
                    const std::string &target, CompiledModel &result) {
  PipelineOptions pipeline;
  pipeline.decodeTokens = options.decodeTokens;
  pipeline.prefillTokens = options.prefillTokens;
  pipeline.prefillForm = options.prefillForm;
  pipeline.target = target;
  pipeline.sms = options.sms;
  pipeline.strict = options.strict;
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
  std::vector<EmittedKernel> kernels;
  Diagnostics diagnostics(module.getContext());
  for (auto func : module.getOps<kernel::FuncOp>()) {
    auto emitted = cpu ? emitCpuKernel(func) : emitCudaKernel(func);
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
  LATHE_ASSIGN_OR_RETURN(models::Model model,
                         buildGraph(context, input, options));
  result.modelType = model.modelType;
  result.vocab = model.vocab;
  result.hidden = model.hidden;
  result.maxPositions = model.maxPositions;
  result.hasMtp = model.hasMtp;
  LATHE_RETURN_IF_ERROR(lower(*model.module, options, target, result));
  LATHE_ASSIGN_OR_RETURN(std::vector<EmittedKernel> kernels,
                         emitKernels(*model.module, options, target));
  result.plan = exportPlan(*model.module, kernels, target);
  if (target != "cpu" && options.persistent)
    LATHE_RETURN_IF_ERROR(addSteps(options, target, kernels, result.plan));
  result.stats.graphMs = millisecondsSince(start);
  return kernels;
}

} // namespace lathe
