#include "tests/compiler/driver/ModelShape.h"

#include "models/Registry.h"
#include "passes/Passes.h"
#include "runtime/memory/PackCpu.h"

using namespace mlir;

namespace lathe::difftest {

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
            "tie_word_embeddings": )" +
         (tied ? "true" : "false") + R"(,
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
            if ((name == "embed_tokens" && !shape.tied) ||
                (name.ends_with("in_proj_a") && shape.denseGates) ||
                (name.ends_with("in_proj_b") && shape.denseGates))
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

/// As a tuner might: each linear of a decode step in `split` ranges of columns,
/// as it was where that is 0, and with `twins` where it can have them.
static void spreadLinears(ModuleOp module, int64_t split, int64_t twins) {
  for (kernel::FuncOp func : kernelsOf(module)) {
    if (func.getAnchor() != kernel::Anchor::Linear ||
        func.getSchedule()->getPrefill())
      continue;
    kernel::CudaAttr cuda = *func.getCuda();
    kernel::ScheduleAttr schedule = *func.getSchedule();
    const bool pairs =
        schedule.getForm() == kernel::Form::Half && schedule.getTokens() > 1;
    const int64_t parts = split > 0 ? split : cuda.getSplit();
    const int64_t grain = parts * (pairs ? twins : 1);
    const int64_t blocks = std::max<int64_t>(cuda.getBlocks() / grain, 1);
    func.setCudaAttr(kernel::CudaAttr::get(
        module.getContext(), blocks * grain, parts, cuda.getWarps(),
        grain > parts ? 1 : cuda.getStages(), cuda.getResident(), 0,
        grain / parts));
  }
}

OwningOpRef<ModuleOp> lowerModel(MLIRContext &context, const Shape &shape) {
  JsonDocument config = need(JsonDocument::parse(shape.config(), "shape"));
  ModelInput input = inputOf(shape, config);
  models::WeightCatalog catalog = input.describe;
  models::Model model = need(models::buildModel(
      &context, {input.config, false, catalog, shape.halfKv}));
  PipelineOptions options;
  options.decodeTokens = shape.decodeTokens;
  options.prefillTokens = shape.prefillTokens;
  options.prefillForm = shape.prefillForm;
  options.decodeForm = shape.decodeForm;
  options.target = shape.target;
  // Planning memory turns functions into entries; kernels stay as they are.
  if (failed(runPipeline(*model.module, options)))
    llvm::report_fatal_error("the pipeline failed");
  if (shape.split > 0 || shape.twins > 1)
    spreadLinears(*model.module, shape.split, shape.twins);
  return std::move(model.module);
}

std::vector<kernel::FuncOp> kernelsOf(ModuleOp module) {
  auto funcs = module.getOps<kernel::FuncOp>();
  return {funcs.begin(), funcs.end()};
}

} // namespace lathe::difftest
