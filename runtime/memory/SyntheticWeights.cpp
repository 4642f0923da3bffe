#include "runtime/memory/SyntheticWeights.h"

#include "runtime/base/Float.h"

#include <cmath>
#include <cstring>
#include <functional>

namespace lathe {

namespace {
/// SplitMix64 (Steele, Lea, Flood 2014): one multiply-xor round per draw.
class Random {
public:
  explicit Random(uint64_t seed) : state(seed) {}
  uint64_t bits() {
    uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  /// Uniform in [-1, 1).
  float symmetric() { return float(int64_t(bits()) >> 40) * 0x1p-23f; }

private:
  uint64_t state;
};
} // namespace

StatusOr<HostWeight> SyntheticWeights::weight(const std::string &name,
                                              const WeightDesc &expected) {
  Random random(std::hash<std::string>{}(name));
  HostWeight w;
  w.desc = expected;
  const int64_t elements = expected.rows * expected.cols;
  // Rows of unit length on average.
  const float scale = std::sqrt(3.0f / float(expected.cols));
  switch (expected.format) {
  case WeightFormat::F32:
  case WeightFormat::F16:
  case WeightFormat::BF16: {
    const size_t size = expected.format == WeightFormat::F32 ? 4 : 2;
    w.data.resize(size_t(elements) * size);
    for (int64_t i = 0; i < elements; ++i) {
      float value = scale * random.symmetric();
      uint16_t half = expected.format == WeightFormat::F16 ? floatToF16(value)
                                                           : floatToBf16(value);
      std::memcpy(w.data.data() + size_t(i) * size,
                  size == 4 ? static_cast<void *>(&value) : &half, size);
    }
    break;
  }
  case WeightFormat::Int4:
  case WeightFormat::NvFp4: {
    w.data.resize(size_t(elements / 2));
    for (size_t i = 0; i < w.data.size(); i += 8) {
      uint64_t bits = random.bits();
      std::memcpy(w.data.data() + i, &bits,
                  std::min<size_t>(8, w.data.size() - i));
    }
    const size_t groups = size_t(elements / expected.group);
    if (expected.format == WeightFormat::Int4) {
      w.scales.assign(groups, floatToF16(scale / 8));
      if (expected.asymmetric)
        w.zeros.assign(groups, 8);
    } else {
      w.blockScales.assign(groups, floatToE4m3(1.0f));
      w.globalScale = scale / 5;
    }
    break;
  }
  }
  return w;
}

StatusOr<std::vector<float>>
SyntheticWeights::tensor(const std::string &name,
                         std::span<const int64_t> shape) {
  Random random(std::hash<std::string>{}(name));
  int64_t elements = 1;
  for (int64_t dim : shape)
    elements *= dim;
  std::vector<float> values(static_cast<size_t>(elements));
  for (float &value : values)
    value = 0.1f * random.symmetric();
  return values;
}

} // namespace lathe
