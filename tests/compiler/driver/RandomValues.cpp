#include "tests/compiler/driver/RandomValues.h"

#include "runtime/base/Float.h"

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
using reference::Value;

static Tensor randomTensor(int64_t rows, int64_t cols, float scale,
                           std::mt19937 &generator) {
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

HostWeight randomWeight(const WeightDesc &desc, std::mt19937 &generator) {
  HostWeight weight;
  weight.desc = desc;
  const float scale = 1.0f / std::sqrt(float(desc.cols));
  if (!desc.group) {
    putDense(weight, randomTensor(desc.rows, desc.cols, scale, generator));
    return weight;
  }
  const size_t elements = size_t(desc.rows * desc.cols);
  weight.data.resize(elements / 2);
  for (uint8_t &byte : weight.data)
    byte = uint8_t(generator());
  for (size_t i = 0; i < elements / size_t(desc.group); ++i) {
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

RandomValues::RandomValues(std::mt19937 &generator, int64_t vocab,
                           int64_t tokens, int64_t farthest)
    : tokens(tokens),
      position(generator() % 4 ? int64_t(generator()) % (farthest + 1) : 0),
      capacity(position + tokens + int64_t(generator() % 40)),
      generator(generator), vocab(vocab) {}

Value RandomValues::makeTensor(RankedTensorType type) {
  if (graph::isTokens(type)) {
    Tokens ids(static_cast<size_t>(tokens));
    for (int32_t &id : ids)
      id = int32_t(generator() % size_t(vocab));
    return ids;
  }
  if (graph::isActivation(type))
    return randomTensor(tokens, type.getDimSize(1), 1, generator);
  const bool matrix = type.getRank() == 2;
  return randomTensor(matrix ? type.getDimSize(0) : 1,
                      type.getDimSize(matrix ? 1 : 0), 0.5f, generator);
}

KvState RandomValues::makeKv(graph::KvType type) {
  const int64_t width = type.getHeads() * type.getHeadDim();
  KvState kv{randomTensor(position, width, 1, generator).data,
             randomTensor(position, width, 1, generator).data};
  if (type.getHalf())
    for (std::vector<float> *values : {&kv.k, &kv.v})
      for (float &value : *values)
        value = f16ToFloat(floatToF16(value));
  return kv;
}

Value RandomValues::make(Type type) {
  return llvm::TypeSwitch<Type, Value>(type)
      .Case<graph::WeightType>([&](auto t) {
        weights.push_back(
            std::make_unique<HostWeight>(randomWeight(t.getDesc(), generator)));
        return weights.back().get();
      })
      .Case<graph::KvType>([&](auto t) { return makeKv(t); })
      .Case<graph::ConvType>([&](auto t) {
        return ConvState{
            randomTensor(t.getSteps(), t.getChannels(), 1, generator).data};
      })
      .Case<graph::RecurrentType>([&](auto t) {
        return RecurrentState{randomTensor(t.getHeads() * t.getKeyDim(),
                                           t.getValueDim(), 1, generator)
                                  .data};
      })
      .Case<RankedTensorType>([&](auto t) { return makeTensor(t); })
      .Default([&](Type) { return position; }); // an index
}

} // namespace lathe::difftest
