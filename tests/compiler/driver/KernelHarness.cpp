#include "tests/compiler/driver/KernelHarness.h"

#include "compiler/cache/ObjectCache.h"
#include "models/Registry.h"
#include "passes/Passes.h"
#include "runtime/base/Float.h"
#include "runtime/engine/ThreadTeam.h"
#include "runtime/memory/PackCpu.h"

#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <cstring>

using namespace mlir;

namespace lathe::difftest {

using reference::ConvState;
using reference::KvState;
using reference::RecurrentState;
using reference::Tensor;
using reference::Tokens;

static constexpr size_t kGuard = 64;
static constexpr uint8_t kGuardByte = 0xa5;
/// Four of them make a NaN.
static constexpr int kPoison = 0xff;

template <class T> static T need(StatusOr<T> value) {
  if (!value.ok())
    llvm::report_fatal_error(messageOf(value.status()).c_str());
  return *std::move(value);
}

static int64_t strideOf(int64_t width) {
  return (width + LATHE_LANES - 1) / LATHE_LANES * LATHE_LANES;
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
// Operands
//===----------------------------------------------------------------------===//

void Operand::reserve(size_t size, int fill) {
  bytes = size;
  memory.assign(size + 64 + kGuard, uint8_t(fill));
  offset = size_t(-reinterpret_cast<uintptr_t>(memory.data())) % 64;
  std::memset(data() + bytes, kGuardByte, kGuard);
}

bool Operand::guardIsIntact() const {
  for (size_t i = 0; i < kGuard; ++i)
    if (memory[offset + bytes + i] != kGuardByte)
      return false;
  return true;
}

Tensor KernelHarness::random(int64_t rows, int64_t cols, float scale) {
  std::normal_distribution<float> normal(0, scale);
  Tensor x(rows, cols);
  for (float &value : x.data)
    value = normal(generator);
  return x;
}

static void putDense(HostWeight &weight, const Tensor &values) {
  const bool wide = weight.desc.format == WeightFormat::F32;
  weight.data.resize(values.data.size() * (wide ? 4 : 2));
  for (size_t i = 0; i < values.data.size(); ++i) {
    const float value = values.data[i];
    const uint16_t half = weight.desc.format == WeightFormat::F16
                              ? floatToF16(value)
                              : floatToBf16(value);
    if (wide)
      std::memcpy(weight.data.data() + 4 * i, &value, 4);
    else
      std::memcpy(weight.data.data() + 2 * i, &half, 2);
  }
}

static HostWeight randomWeight(const WeightDesc &desc, const Tensor &values,
                               std::mt19937 &generator) {
  HostWeight weight;
  weight.desc = desc;
  if (!desc.group) {
    putDense(weight, values);
    return weight;
  }
  const size_t groups = values.data.size() / size_t(desc.group);
  const float scale = 1.0f / std::sqrt(float(desc.cols));
  weight.data.resize(values.data.size() / 2);
  for (uint8_t &byte : weight.data)
    byte = uint8_t(generator());
  for (size_t i = 0; i < groups; ++i) {
    // Scales of every size and, for integers, sign.
    const float s = scale * float(generator() % 1000) / 2000;
    if (desc.format == WeightFormat::NvFp4)
      weight.blockScales.push_back(floatToE4m3(s * 64));
    else
      weight.scales.push_back(floatToF16(generator() % 4 ? s : -s));
    if (desc.asymmetric)
      weight.zeros.push_back(uint8_t(generator() % 16));
  }
  weight.globalScale = 1.0f / 64;
  return weight;
}

void KernelHarness::fillWeight(Operand &operand, graph::WeightType type,
                               plan::Layout layout) {
  const WeightDesc desc = type.getDesc();
  const float scale = 1.0f / std::sqrt(float(desc.cols));
  weights.push_back(std::make_unique<HostWeight>(
      randomWeight(desc, random(desc.rows, desc.cols, scale), generator)));
  const HostWeight &weight = *weights.back();
  operand.value = &weight;
  if (layout == plan::Layout::Rows) {
    operand.reserve(weight.data.size(), kPoison);
    std::memcpy(operand.data(), weight.data.data(), weight.data.size());
    return;
  }
  operand.reserve(size_t(packedBytes(desc)), kPoison);
  packRows(weight, 0, tileCount(desc), operand.data());
}

/// The kernel's cache is [heads][capacity][head_dim], keys then values; the
/// reference's [positions][heads * head_dim].
static void copyKv(const KvState &kv, graph::KvType type, int64_t positions,
                   int64_t capacity, float *to) {
  const int64_t heads = type.getHeads(), dim = type.getHeadDim();
  for (const std::vector<float> *from : {&kv.k, &kv.v}) {
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t p = 0; p < positions; ++p)
        std::memcpy(to + (h * capacity + p) * dim,
                    from->data() + (p * heads + h) * dim,
                    size_t(dim) * sizeof(float));
    to += heads * capacity * dim;
  }
}

void KernelHarness::fillKv(Operand &operand, graph::KvType type) {
  const int64_t width = type.getHeads() * type.getHeadDim();
  KvState kv{random(position, width, 1).data, random(position, width, 1).data};
  operand.reserve(size_t(2 * capacity * width) * sizeof(float), kPoison);
  copyKv(kv, type, position, capacity, operand.floats());
  operand.value = std::move(kv);
}

static void putRows(Operand &operand, const Tensor &x) {
  const int64_t stride = strideOf(x.cols);
  operand.reserve(size_t(x.rows * stride) * sizeof(float), 0);
  for (int64_t t = 0; t < x.rows; ++t)
    std::memcpy(operand.floats() + t * stride, x.row(t),
                size_t(x.cols) * sizeof(float));
}

static void putFloats(Operand &operand, const std::vector<float> &values,
                      size_t slack) {
  operand.reserve(values.size() * sizeof(float) + slack, 0);
  std::memcpy(operand.data(), values.data(), values.size() * sizeof(float));
}

static std::vector<float> transposed(const Tensor &x) {
  std::vector<float> result(x.data.size());
  for (int64_t r = 0; r < x.rows; ++r)
    for (int64_t c = 0; c < x.cols; ++c)
      result[size_t(c * x.rows + r)] = x.row(r)[c];
  return result;
}

Operand KernelHarness::makeOperand(Type type, plan::Layout layout) {
  Operand operand;
  operand.type = type;
  llvm::TypeSwitch<Type>(type)
      .Case<IndexType>([&](auto) { operand.value = position; })
      .Case<graph::WeightType>([&](auto t) { fillWeight(operand, t, layout); })
      .Case<graph::KvType>([&](auto t) { fillKv(operand, t); })
      .Case<graph::ConvType>([&](auto t) {
        ConvState state{random(t.getSteps(), t.getChannels(), 1).data};
        putFloats(operand, state.data, 0);
        operand.value = std::move(state);
      })
      .Case<graph::RecurrentType>([&](auto t) {
        RecurrentState state{
            random(t.getHeads() * t.getKeyDim(), t.getValueDim(), 1).data};
        putFloats(operand, state.data, 0);
        operand.value = std::move(state);
      })
      .Case<RankedTensorType>([&](auto t) {
        if (graph::isTokens(t)) {
          Tokens ids(static_cast<size_t>(tokens));
          for (int32_t &id : ids)
            id = int32_t(generator() % size_t(shape.vocab));
          operand.reserve(ids.size() * sizeof(int32_t), 0);
          std::memcpy(operand.data(), ids.data(), operand.bytes);
          operand.value = std::move(ids);
        } else if (graph::isActivation(t)) {
          Tensor x = random(tokens, t.getDimSize(1), 1);
          putRows(operand, x);
          operand.value = std::move(x);
        } else {
          const bool matrix = t.getRank() == 2;
          Tensor x = random(matrix ? t.getDimSize(0) : 1,
                            t.getDimSize(matrix ? 1 : 0), 0.5f);
          // Kernels load whole vectors of parameters.
          putFloats(operand,
                    layout == plan::Layout::Transposed ? transposed(x) : x.data,
                    64);
          operand.value = std::move(x);
        }
      });
  return operand;
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

void KernelHarness::launch(LatheKernel kernel, const EmittedKernel &emitted,
                           std::vector<void *> &args, Comparison &result) {
  ThreadTeam team(2);
  LatheBarrier barrier{0, 0};
  Operand shared, local[2];
  shared.reserve(size_t(emitted.sharedBytes), kPoison);
  for (Operand &own : local)
    own.reserve(size_t(emitted.localBytes), kPoison);
  team.run([&](int thread) {
    LatheContext ctx;
    ctx.thread = thread;
    ctx.threads = team.size();
    ctx.tokens = int(tokens);
    ctx.position = int(position);
    ctx.capacity = int(capacity);
    ctx.shared = shared.data();
    ctx.local = local[thread].data();
    ctx.barrier = &barrier;
    kernel(args.data(), &ctx);
  });
  if (!shared.guardIsIntact() || !local[0].guardIsIntact() ||
      !local[1].guardIsIntact())
    result.problem = "wrote behind its scratch";
}

/// The largest difference in units of max(1, rms of `wanted`, its element).
static double distance(const std::vector<float> &wanted,
                       const std::vector<float> &found) {
  double squares = 0, worst = 0;
  for (float value : wanted)
    squares += double(value) * value;
  const double unit = std::fmax(1, std::sqrt(squares / double(wanted.size())));
  for (size_t i = 0; i < wanted.size(); ++i) {
    double difference = std::fabs(double(wanted[i]) - double(found[i])) /
                        std::fmax(unit, std::fabs(double(wanted[i])));
    if (!(difference <= worst))
      worst = std::isfinite(difference) ? difference : INFINITY;
  }
  return worst;
}

/// What the kernel wrote for a result, in the reference's order of elements.
static double distance(const reference::Value &wanted, Operand &found,
                       int64_t capacity) {
  std::vector<float> expected, actual;
  if (auto *x = std::get_if<Tensor>(&wanted)) {
    expected = x->data;
    for (int64_t t = 0; t < x->rows; ++t)
      actual.insert(actual.end(), found.floats() + t * strideOf(x->cols),
                    found.floats() + t * strideOf(x->cols) + x->cols);
    return distance(expected, actual);
  }
  if (auto *kv = std::get_if<KvState>(&wanted)) {
    auto type = cast<graph::KvType>(found.type);
    const int64_t positions =
        int64_t(kv->k.size()) / (type.getHeads() * type.getHeadDim());
    // Where the reference has nothing, the kernel must have left the NaNs.
    expected.assign(found.bytes / sizeof(float), 0);
    std::memset(expected.data(), kPoison, found.bytes);
    copyKv(*kv, type, positions, capacity, expected.data());
    actual.assign(found.floats(), found.floats() + expected.size());
    for (size_t i = 0; i < expected.size(); ++i)
      if (std::isnan(expected[i]) && std::isnan(actual[i]))
        expected[i] = actual[i] = 0;
    return distance(expected, actual);
  }
  if (auto *conv = std::get_if<ConvState>(&wanted))
    expected = conv->data;
  else
    expected = std::get<RecurrentState>(wanted).data;
  actual.assign(found.floats(), found.floats() + expected.size());
  return distance(expected, actual);
}

namespace {
struct NoWeights : reference::WeightProvider {
  StatusOr<const HostWeight *> weight(std::string_view,
                                      const WeightDesc &) override {
    return internalError("kernels take weights as operands");
  }
  StatusOr<Tensor> tensor(std::string_view, llvm::ArrayRef<int64_t>) override {
    return internalError("kernels take parameters as operands");
  }
};
} // namespace

Comparison KernelHarness::compare(kernel::FuncOp func, int64_t tokenCount) {
  tokens = tokenCount;
  position = 3 + int64_t(generator() % 60);
  capacity = position + tokens + int64_t(generator() % 40);
  std::vector<Operand> operands;
  std::vector<reference::Value> values;
  for (auto [i, type] : llvm::enumerate(func.getArgumentTypes())) {
    auto layout =
        func.getArgAttrOfType<plan::LayoutAttr>(unsigned(i), "lathe.layout");
    operands.push_back(
        makeOperand(type, layout ? layout.getValue() : plan::Layout::Tiles));
    values.push_back(operands.back().value);
  }
  std::vector<Operand> results;
  for (Type type : func.getResultTypes()) {
    results.emplace_back().type = type;
    if (!graph::isState(type))
      results.back().reserve(size_t(tokens * strideOf(graph::widthOf(type))) *
                                 sizeof(float),
                             kPoison);
  }
  std::vector<void *> args;
  for (Operand &operand : operands)
    if (!isa<IndexType>(operand.type))
      args.push_back(operand.data());
  for (Operand &result : results)
    if (!graph::isState(result.type))
      args.push_back(result.data());

  Comparison comparison;
  std::string name = func.getSymName().str();
  launch(functions.at(name), emitted.at(name), args, comparison);
  NoWeights none;
  std::vector<reference::Value> wanted =
      need(reference::run(func, std::move(values), none));
  for (auto [i, result] : llvm::enumerate(results)) {
    // A kernel updates its states in place; it has one of each type at most.
    Operand *found = &result;
    for (Operand &operand : operands) {
      if (graph::isState(result.type) && operand.type == result.type)
        found = &operand;
      if (!isa<IndexType>(operand.type) && !operand.guardIsIntact())
        comparison.problem = "wrote behind an operand";
    }
    if (!found->guardIsIntact())
      comparison.problem = "wrote behind a result";
    comparison.worst =
        std::fmax(comparison.worst, distance(wanted[i], *found, capacity));
  }
  weights.clear();
  return comparison;
}

} // namespace lathe::difftest
