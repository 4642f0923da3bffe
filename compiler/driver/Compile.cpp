#include "compiler/driver/Compile.h"

#include "compiler/cache/ObjectCache.h"
#include "compiler/driver/PlanExport.h"
#include "compiler/jit/KernelCompiler.h"
#include "models/Registry.h"
#include "passes/Passes.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"

#include <chrono>

using namespace mlir;

namespace lathe {

namespace {

using Clock = std::chrono::steady_clock;

double millisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start)
      .count();
}

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

static StatusOr<models::Model> buildGraph(MLIRContext &context,
                                          const ModelInput &input,
                                          const CompileOptions &options) {
  models::WeightCatalog catalog = input.describe;
  LATHE_ASSIGN_OR_RETURN(
      models::Model model,
      models::buildModel(
          &context,
          {input.config, options.mtp && input.hasMtpWeights, catalog}));
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
                    CompiledModel &result) {
  PipelineOptions pipeline;
  pipeline.decodeTokens = options.decodeTokens;
  pipeline.prefillTokens = options.prefillTokens;
  pipeline.prefillForm = options.prefillForm;
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
emitKernels(ModuleOp module, const CompileOptions &options) {
  std::vector<EmittedKernel> kernels;
  Diagnostics diagnostics(module.getContext());
  for (auto func : module.getOps<kernel::FuncOp>()) {
    auto emitted = emitCpuKernel(func);
    if (failed(emitted))
      return modelError("the CPU back end cannot do this model: " +
                        diagnostics.errors);
    if (options.dump)
      options.dump("cpp", emitted->name, emitted->text);
    kernels.push_back(std::move(*emitted));
  }
  return kernels;
}

static StatusOr<std::vector<EmittedKernel>>
planAndEmit(const ModelInput &input, const CompileOptions &options,
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
  LATHE_RETURN_IF_ERROR(lower(*model.module, options, result));
  LATHE_ASSIGN_OR_RETURN(std::vector<EmittedKernel> kernels,
                         emitKernels(*model.module, options));
  result.plan = exportPlan(*model.module, kernels);
  result.stats.graphMs = millisecondsSince(start);
  return kernels;
}

StatusOr<std::unique_ptr<CompiledModel>>
planModel(const ModelInput &input, const CompileOptions &options) {
  auto result = std::make_unique<CompiledModel>();
  LATHE_RETURN_IF_ERROR(planAndEmit(input, options, *result).status());
  return result;
}

StatusOr<std::unique_ptr<CompiledModel>>
compileModel(const ModelInput &input, const CompileOptions &options) {
  auto result = std::make_unique<CompiledModel>();
  LATHE_ASSIGN_OR_RETURN(std::vector<EmittedKernel> emitted,
                         planAndEmit(input, options, *result));
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
