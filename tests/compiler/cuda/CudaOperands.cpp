#include "tests/compiler/cuda/CudaOperands.h"

#include "runtime/base/Float.h"

#include <cmath>

using namespace mlir;

namespace lathe::difftest {

using reference::ConvState;
using reference::KvState;
using reference::RecurrentState;
using reference::Tensor;

//===----------------------------------------------------------------------===//
// Placing
//===----------------------------------------------------------------------===//

static void placeKv(Operand &operand, int64_t capacity) {
  auto type = cast<graph::KvType>(operand.type);
  std::vector<float> cache =
      cacheOf(std::get<KvState>(operand.value), type, capacity);
  if (!type.getHalf())
    return operand.assign(cache);
  std::vector<uint16_t> halves;
  for (float value : cache)
    halves.push_back(std::isnan(value) ? 0xffff : floatToF16(value));
  operand.assign(halves);
}

/// Where the ring keeps the input of `position`, which may be negative.
static float *ringRow(Operand &operand, graph::ConvType type,
                      int64_t position) {
  return operand.floats() +
         (position & (LATHE_CONV_RING - 1)) * type.getChannels();
}

static void placeConv(Operand &operand, int64_t position) {
  auto type = cast<graph::ConvType>(operand.type);
  const int64_t channels = type.getChannels();
  operand.reserve(size_t(LATHE_CONV_RING * channels) * sizeof(float), kPoison);
  const float *from = std::get<ConvState>(operand.value).data.data();
  for (int64_t i = 0; i < type.getSteps(); ++i)
    std::memcpy(ringRow(operand, type, position - type.getSteps() + i),
                from + i * channels, size_t(channels) * sizeof(float));
}

void placeOnCuda(Operand &operand, plan::Layout layout,
                 const RandomValues &random, CudaWeightPacker &packer) {
  if (auto *weight = std::get_if<const HostWeight *>(&operand.value)) {
    if (layout == plan::Layout::Rows)
      operand.assign((*weight)->data);
    else
      static_cast<GuardedMemory &>(operand) = packer.pack(**weight);
  } else if (std::holds_alternative<KvState>(operand.value)) {
    placeKv(operand, random.capacity);
  } else if (std::holds_alternative<ConvState>(operand.value)) {
    placeConv(operand, random.position);
  } else if (auto *state = std::get_if<RecurrentState>(&operand.value)) {
    operand.assign(state->data);
  } else if (!isa<IndexType>(operand.type)) {
    placeTensor(operand, layout, kPoison);
  }
}

Operand tokenOf(const Operand &operand, int64_t t) {
  Operand row = operand;
  size_t bytes = 0;
  if (graph::isTokens(operand.type))
    bytes = sizeof(int32_t);
  else if (graph::isActivation(operand.type))
    bytes = size_t(strideOf(graph::widthOf(operand.type))) * sizeof(float);
  else
    return row;
  row.reserve(bytes, kPoison);
  std::memcpy(row.data(), operand.data() + size_t(t) * bytes, bytes);
  return row;
}

//===----------------------------------------------------------------------===//
// Comparing
//===----------------------------------------------------------------------===//

static std::vector<float> cacheIn(Operand &found, graph::KvType type) {
  const size_t count = found.size() / size_t(type.elementBytes());
  if (!type.getHalf())
    return {found.floats(), found.floats() + count};
  std::vector<float> cache;
  auto *halves = reinterpret_cast<const uint16_t *>(found.data());
  for (size_t i = 0; i < count; ++i)
    cache.push_back(f16ToFloat(halves[i]));
  return cache;
}

/// The last inputs before `position`, oldest first.
static std::vector<float> stepsIn(Operand &found, int64_t position) {
  auto type = cast<graph::ConvType>(found.type);
  std::vector<float> steps;
  for (int64_t i = 0; i < type.getSteps(); ++i) {
    const float *row = ringRow(found, type, position - type.getSteps() + i);
    steps.insert(steps.end(), row, row + type.getChannels());
  }
  return steps;
}

double cudaDistance(const reference::Value &wanted, Operand &found,
                    const RandomValues &random) {
  if (auto *kv = std::get_if<KvState>(&wanted)) {
    auto type = cast<graph::KvType>(found.type);
    return distance(cacheOf(*kv, type, random.capacity), cacheIn(found, type));
  }
  if (auto *conv = std::get_if<ConvState>(&wanted))
    return distance(conv->data,
                    stepsIn(found, random.position + random.tokens));
  return distance(wanted, found, random.capacity);
}

} // namespace lathe::difftest
