#include "tests/compiler/driver/KernelHarness.h"

#include "compiler/cache/ObjectCache.h"
#include "models/Registry.h"
#include "passes/Passes.h"
#include "runtime/engine/ThreadTeam.h"
#include "runtime/memory/PackCpu.h"

#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <thread>

using namespace mlir;

namespace lathe::difftest {

template <class T> static T need(StatusOr<T> value) {
  if (!value.ok())
    llvm::report_fatal_error(messageOf(value.status()).c_str());
  return *std::move(value);
}

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

std::string Shape::config() const {
  auto field = [](const char *key, int64_t value) {
    return "\"" + std::string(key) + "\": " + std::to_string(value) + ",\n";
  };
  return "{" + field("hidden_size", hidden) +
         field("intermediate_size", intermediate) + field("vocab_size", vocab) +
         field("num_attention_heads", heads) +
         field("num_key_value_heads", kvHeads) + field("head_dim", headDim) +
         field("linear_num_key_heads", keyHeads) +
         field("linear_num_value_heads", valueHeads) +
         field("linear_key_head_dim", keyDim) +
         field("linear_value_head_dim", valueDim) +
         field("num_hidden_layers", 2) +
         R"("layer_types": ["linear_attention", "full_attention"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                                "partial_rotary_factor": 0.5},
            "tie_word_embeddings": false,
            "model_type": "qwen3_5_text"})";
}

StatusOr<WeightDesc> Shape::describe(int64_t rows, int64_t cols) const {
  if (group && cols % group != 0)
    return WeightDesc{WeightFormat::F16, rows, cols, 0, false};
  return WeightDesc{format, rows, cols, group, asymmetric};
}

static ModelInput inputOf(const Shape &shape, const JsonDocument &config) {
  return {config.root(), false,
          [&shape](std::string_view name, int64_t rows, int64_t cols) {
            // Tables are stored dense, as in checkpoints.
            if (name == "embed_tokens")
              return StatusOr<WeightDesc>(
                  WeightDesc{WeightFormat::BF16, rows, cols, 0, false});
            return shape.describe(rows, cols);
          }};
}

Status planStatus(const Shape &shape) {
  JsonDocument config = need(JsonDocument::parse(shape.config(), "shape"));
  CompileOptions options;
  options.decodeTokens = shape.decodeTokens;
  LATHE_ASSIGN_OR_RETURN(auto model,
                         planModel(inputOf(shape, config), options));
  for (const PlannedWeight &weight : model->plan.weights)
    if (weight.layout == Layout::Tiles)
      LATHE_RETURN_IF_ERROR(annotate(checkPackable(weight.desc), weight.name));
  return absl::OkStatus();
}

//===----------------------------------------------------------------------===//
// Lowering and running
//===----------------------------------------------------------------------===//

KernelHarness::KernelHarness(const Shape &shape)
    : shape(shape), context(MLIRContext::Threading::DISABLED) {
  lower();
  compile();
}

void KernelHarness::lower() {
  JsonDocument config = need(JsonDocument::parse(shape.config(), "shape"));
  ModelInput input = inputOf(shape, config);
  models::WeightCatalog catalog = input.describe;
  models::Model model =
      need(models::buildModel(&context, {input.config, false, catalog}));
  PipelineOptions options;
  options.decodeTokens = shape.decodeTokens;
  options.prefillTokens = 65;
  options.prefillForm = shape.prefillForm;
  // Planning memory turns functions into entries; kernels stay as they are.
  if (failed(runPipeline(*model.module, options)))
    llvm::report_fatal_error("the pipeline failed");
  module = std::move(model.module);
}

void KernelHarness::compile() {
  auto cache = need(ObjectCache::open(LATHE_KERNEL_CACHE));
  compiler = need(
      KernelCompiler::create(need(hostTarget(shape.avx2)), cache.get(), 2));
  std::vector<KernelSource> sources;
  for (kernel::FuncOp func : kernels()) {
    auto result = emitCpuKernel(func);
    if (failed(result))
      llvm::report_fatal_error("a kernel cannot be emitted");
    sources.push_back({result->name, result->text});
    emitted[result->name] = std::move(*result);
  }
  functions = need(compiler->compile(sources));
}

std::vector<kernel::FuncOp> KernelHarness::kernels() {
  auto funcs = module->getOps<kernel::FuncOp>();
  return {funcs.begin(), funcs.end()};
}

void KernelHarness::launch(kernel::FuncOp func, const OperandMaker &maker,
                           std::vector<void *> &args, Comparison &result) {
  const std::string name = func.getSymName().str();
  const LatheKernel kernel = functions.at(name);
  ThreadTeam team(2);
  LatheBarrier barrier{0, 0};
  Operand shared, local[2];
  shared.reserve(size_t(emitted.at(name).sharedBytes), kPoison);
  for (Operand &own : local)
    own.reserve(size_t(emitted.at(name).localBytes), kPoison);
  team.run([&](int thread) {
    LatheContext ctx{};
    ctx.thread = thread;
    ctx.threads = team.size();
    ctx.tokens = int(maker.tokens);
    ctx.position = int(maker.position);
    ctx.capacity = int(maker.capacity);
    ctx.shared = shared.data();
    ctx.local = local[thread].data();
    ctx.barrier = &barrier;
    ctx.yield = [] { std::this_thread::yield(); };
    kernel(args.data(), &ctx);
  });
  if (!shared.guardIsIntact() || !local[0].guardIsIntact() ||
      !local[1].guardIsIntact())
    result.problem = "wrote behind its scratch";
}

namespace {
struct NoWeights : reference::WeightProvider {
  StatusOr<const HostWeight *> weight(std::string_view,
                                      const WeightDesc &) override {
    return internalError("kernels take weights as operands");
  }
  StatusOr<reference::Tensor> tensor(std::string_view,
                                     llvm::ArrayRef<int64_t>) override {
    return internalError("kernels take parameters as operands");
  }
};
} // namespace

/// Where the kernel left a result: a state is updated in place, and a kernel
/// has one of each type at most.
static Operand &foundAt(Operand &result, std::vector<Operand> &operands) {
  if (graph::isState(result.type))
    for (Operand &operand : operands)
      if (operand.type == result.type)
        return operand;
  return result;
}

/// Pointers in the order of the kernel's interface.
static std::vector<void *> argsOf(std::vector<Operand> &operands,
                                  std::vector<Operand> &results) {
  std::vector<void *> args;
  for (Operand &operand : operands)
    if (!isa<IndexType>(operand.type))
      args.push_back(operand.data());
  for (Operand &result : results)
    if (!graph::isState(result.type))
      args.push_back(result.data());
  return args;
}

static Operand emptyResult(Type type, int64_t tokens) {
  Operand result;
  result.type = type;
  if (!graph::isState(type))
    result.reserve(size_t(tokens * strideOf(graph::widthOf(type))) *
                       sizeof(float),
                   kPoison);
  return result;
}

Comparison KernelHarness::compare(kernel::FuncOp func, int64_t tokens) {
  OperandMaker maker(generator, shape.vocab, tokens);
  std::vector<Operand> operands, results;
  std::vector<reference::Value> values;
  for (auto [i, type] : llvm::enumerate(func.getArgumentTypes())) {
    auto layout =
        func.getArgAttrOfType<plan::LayoutAttr>(unsigned(i), "lathe.layout");
    operands.push_back(
        maker.make(type, layout ? layout.getValue() : plan::Layout::Tiles));
    values.push_back(operands.back().value);
  }
  for (Type type : func.getResultTypes())
    results.push_back(emptyResult(type, tokens));
  std::vector<void *> args = argsOf(operands, results);

  Comparison comparison;
  launch(func, maker, args, comparison);
  NoWeights none;
  std::vector<reference::Value> wanted =
      need(reference::run(func, std::move(values), none));
  for (Operand &operand : operands)
    if (!isa<IndexType>(operand.type) && !operand.guardIsIntact())
      comparison.problem = "wrote behind an operand";
  for (auto [i, result] : llvm::enumerate(results)) {
    Operand &found = foundAt(result, operands);
    if (!found.guardIsIntact())
      comparison.problem = "wrote behind a result";
    comparison.worst =
        std::fmax(comparison.worst, distance(wanted[i], found, maker.capacity));
  }
  return comparison;
}

} // namespace lathe::difftest
