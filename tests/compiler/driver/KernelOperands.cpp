#include "tests/compiler/driver/KernelOperands.h"

#include "ir/reference/Interpreter.h"
#include "runtime/base/KernelAbi.h"
#include "runtime/memory/PackCpu.h"
#include "tests/compiler/driver/ModelShape.h"

#include <cmath>
#include <limits>

using namespace mlir;

namespace lathe::difftest {

using reference::ConvState;
using reference::KvState;
using reference::RecurrentState;
using reference::Tensor;
using reference::Tokens;

int64_t strideOf(int64_t width) {
  return (width + LATHE_LANES - 1) / LATHE_LANES * LATHE_LANES;
}

//===----------------------------------------------------------------------===//
// Placing
//===----------------------------------------------------------------------===//

static void putRows(Operand &operand, const Tensor &x, int fill) {
  const int64_t stride = strideOf(x.cols);
  operand.reserve(size_t(x.rows * stride) * sizeof(float), fill);
  for (int64_t t = 0; t < x.rows; ++t)
    std::memcpy(operand.floats() + t * stride, x.row(t),
                size_t(x.cols) * sizeof(float));
}

static std::vector<float> transposed(const Tensor &x) {
  std::vector<float> result(x.data.size());
  for (int64_t r = 0; r < x.rows; ++r)
    for (int64_t c = 0; c < x.cols; ++c)
      result[size_t(c * x.rows + r)] = x.row(r)[c];
  return result;
}

void placeTensor(Operand &operand, plan::Layout layout, int fill) {
  if (auto *ids = std::get_if<Tokens>(&operand.value))
    return operand.assign(*ids);
  const Tensor &x = std::get<Tensor>(operand.value);
  if (graph::isActivation(operand.type))
    return putRows(operand, x, fill);
  std::vector<float> values =
      layout == plan::Layout::Transposed ? transposed(x) : x.data;
  // Kernels load whole vectors of parameters.
  values.resize(values.size() + LATHE_LANES);
  operand.assign(values);
}

std::vector<float> cacheOf(const KvState &kv, graph::KvType type,
                           int64_t capacity) {
  const int64_t heads = type.getHeads(), dim = type.getHeadDim();
  const int64_t positions = int64_t(kv.k.size()) / (heads * dim);
  std::vector<float> cache(size_t(2 * heads * capacity * dim));
  std::memset(cache.data(), kPoison, cache.size() * sizeof(float));
  float *to = cache.data();
  for (const std::vector<float> *from : {&kv.k, &kv.v}) {
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t p = 0; p < positions; ++p)
        std::memcpy(to + (h * capacity + p) * dim,
                    from->data() + (p * heads + h) * dim,
                    size_t(dim) * sizeof(float));
    to += heads * capacity * dim;
  }
  return cache;
}

static void placeWeight(Operand &operand, const HostWeight &weight,
                        plan::Layout layout) {
  if (layout == plan::Layout::Rows)
    return operand.assign(weight.data);
  operand.reserve(size_t(packedBytes(weight.desc)), kPoison);
  packRows(weight, 0, tileCount(weight.desc), operand.data());
}

void placeOnCpu(Operand &operand, plan::Layout layout, int64_t capacity) {
  if (auto *weight = std::get_if<const HostWeight *>(&operand.value))
    placeWeight(operand, **weight, layout);
  else if (auto *kv = std::get_if<KvState>(&operand.value))
    operand.assign(cacheOf(*kv, cast<graph::KvType>(operand.type), capacity));
  else if (auto *conv = std::get_if<ConvState>(&operand.value))
    operand.assign(conv->data);
  else if (auto *state = std::get_if<RecurrentState>(&operand.value))
    operand.assign(state->data);
  else if (!isa<IndexType>(operand.type))
    placeTensor(operand, layout, 0);
}

//===----------------------------------------------------------------------===//
// One launch
//===----------------------------------------------------------------------===//

std::vector<GuardedMemory *> LaunchOperands::interface() {
  std::vector<GuardedMemory *> all;
  for (Operand &operand : operands)
    if (!isa<IndexType>(operand.type))
      all.push_back(&operand);
  for (Operand &result : results)
    if (!graph::isState(result.type))
      all.push_back(&result);
  return all;
}

Operand &LaunchOperands::found(size_t i) {
  if (graph::isState(results[i].type))
    for (Operand &operand : operands)
      if (operand.type == results[i].type)
        return operand;
  return results[i];
}

std::string LaunchOperands::problem() {
  for (auto [i, memory] : llvm::enumerate(interface()))
    if (!memory->guardIsIntact())
      return "wrote behind operand " + std::to_string(i);
  return "";
}

LaunchOperands makeOperands(kernel::FuncOp func, RandomValues &random,
                            Place place) {
  LaunchOperands launch;
  for (auto [i, type] : llvm::enumerate(func.getArgumentTypes())) {
    auto layout =
        func.getArgAttrOfType<plan::LayoutAttr>(unsigned(i), "lathe.layout");
    Operand &operand = launch.operands.emplace_back();
    operand.type = type;
    operand.value = random.make(type);
    place(operand, layout ? layout.getValue() : plan::Layout::Tiles);
  }
  for (Type type : func.getResultTypes()) {
    Operand &result = launch.results.emplace_back();
    result.type = type;
    if (!graph::isState(type))
      result.reserve(size_t(random.tokens * strideOf(graph::widthOf(type))) *
                         sizeof(float),
                     kPoison);
  }
  return launch;
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

std::vector<reference::Value> runReference(kernel::FuncOp func,
                                           const LaunchOperands &launch) {
  std::vector<reference::Value> values;
  for (const Operand &operand : launch.operands)
    values.push_back(operand.value);
  NoWeights none;
  return need(reference::run(func, std::move(values), none));
}

//===----------------------------------------------------------------------===//
// Comparing
//===----------------------------------------------------------------------===//

std::vector<float> rowsIn(Operand &found, int64_t rows, int64_t cols) {
  std::vector<float> values;
  for (int64_t t = 0; t < rows; ++t)
    values.insert(values.end(), found.floats() + t * strideOf(cols),
                  found.floats() + t * strideOf(cols) + cols);
  return values;
}

double distance(const std::vector<float> &wanted,
                const std::vector<float> &found) {
  double squares = 0, worst = 0, count = 0;
  for (float value : wanted)
    if (!std::isnan(value)) {
      squares += double(value) * value;
      ++count;
    }
  const double unit = std::fmax(1, std::sqrt(squares / count));
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (std::isnan(wanted[i]) && std::isnan(found[i]))
      continue;
    double difference = std::fabs(double(wanted[i]) - double(found[i])) /
                        std::fmax(unit, std::fabs(double(wanted[i])));
    if (!(difference <= worst))
      worst = std::isfinite(difference) ? difference : INFINITY;
  }
  return worst;
}

double distance(const reference::Value &wanted, Operand &found,
                int64_t capacity) {
  auto floats = [&] {
    return std::vector<float>(found.floats(),
                              found.floats() + found.size() / sizeof(float));
  };
  if (auto *x = std::get_if<Tensor>(&wanted))
    return distance(x->data, rowsIn(found, x->rows, x->cols));
  if (auto *kv = std::get_if<KvState>(&wanted))
    return distance(cacheOf(*kv, cast<graph::KvType>(found.type), capacity),
                    floats());
  if (auto *conv = std::get_if<ConvState>(&wanted))
    return distance(conv->data, floats());
  return distance(std::get<RecurrentState>(wanted).data, floats());
}

} // namespace lathe::difftest
