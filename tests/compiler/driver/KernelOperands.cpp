#include "tests/compiler/driver/KernelOperands.h"

#include "runtime/base/Float.h"
#include "runtime/base/KernelAbi.h"
#include "runtime/memory/PackCpu.h"

#include "llvm/ADT/TypeSwitch.h"

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

int64_t strideOf(int64_t width) {
  return (width + LATHE_LANES - 1) / LATHE_LANES * LATHE_LANES;
}

OperandMaker::OperandMaker(std::mt19937 &generator, int64_t vocab,
                           int64_t tokens)
    : tokens(tokens), position(3 + int64_t(generator() % 60)),
      capacity(position + tokens + int64_t(generator() % 40)),
      generator(generator), vocab(vocab) {}

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

Tensor OperandMaker::random(int64_t rows, int64_t cols, float scale) {
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

void OperandMaker::fillWeight(Operand &operand, graph::WeightType type,
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

void OperandMaker::fillKv(Operand &operand, graph::KvType type) {
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

void OperandMaker::fillTensor(Operand &operand, RankedTensorType type,
                              plan::Layout layout) {
  if (graph::isTokens(type)) {
    Tokens ids(static_cast<size_t>(tokens));
    for (int32_t &id : ids)
      id = int32_t(generator() % size_t(vocab));
    operand.reserve(ids.size() * sizeof(int32_t), 0);
    std::memcpy(operand.data(), ids.data(), operand.bytes);
    operand.value = std::move(ids);
    return;
  }
  if (graph::isActivation(type)) {
    Tensor x = random(tokens, type.getDimSize(1), 1);
    putRows(operand, x);
    operand.value = std::move(x);
    return;
  }
  const bool matrix = type.getRank() == 2;
  Tensor x = random(matrix ? type.getDimSize(0) : 1,
                    type.getDimSize(matrix ? 1 : 0), 0.5f);
  // Kernels load whole vectors of parameters.
  putFloats(operand,
            layout == plan::Layout::Transposed ? transposed(x) : x.data, 64);
  operand.value = std::move(x);
}

Operand OperandMaker::make(Type type, plan::Layout layout) {
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
      .Case<RankedTensorType>([&](auto t) { fillTensor(operand, t, layout); });
  return operand;
}

//===----------------------------------------------------------------------===//
// Comparing
//===----------------------------------------------------------------------===//

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

double distance(const reference::Value &wanted, Operand &found,
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

} // namespace lathe::difftest
