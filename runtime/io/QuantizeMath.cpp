#include "runtime/io/QuantizeMath.h"

#include "runtime/base/Float.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace lathe {

static constexpr int kLanes = 8;
static constexpr int kBlock = 16;
static constexpr float kE2m1Max = 6, kE4m3Max = 448;

/// Adding and subtracting this rounds a small float to an integer, ties to
/// even, and vectorises on every target.
static constexpr float kRounder = 12582912.0f; // 1.5 * 2^23

static float roundToInt4(float v) {
  v = v < -8.0f ? -8.0f : v;
  v = v > 7.0f ? 7.0f : v;
  return (v + kRounder) - kRounder;
}

static float sum(const float (&lanes)[kLanes]) {
  float total = 0;
  for (float v : lanes)
    total += v;
  return total;
}

static float int4Error(const float *x, int n, float scale) {
  const float inverse = 1.0f / scale;
  float lanes[kLanes] = {};
  for (int i = 0; i < n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) {
      float d = x[i + j] - roundToInt4(x[i + j] * inverse) * scale;
      lanes[j] += d * d;
    }
  return sum(lanes);
}

/// The scale that fits best once the codes of `scale` are fixed.
static float refitScale(const float *x, int n, float scale) {
  const float inverse = 1.0f / scale;
  float xq[kLanes] = {}, qq[kLanes] = {};
  for (int i = 0; i < n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) {
      float q = roundToInt4(x[i + j] * inverse);
      xq[j] += x[i + j] * q;
      qq[j] += q * q;
    }
  float denominator = sum(qq);
  return denominator > 0 ? sum(xq) / denominator : scale;
}

static bool isUsable(uint16_t half) {
  return (half & 0x7fff) != 0 && (half & 0x7c00) != 0x7c00;
}

/// The best F16 scale of a group; one when every scale underflows.
static uint16_t searchInt4Scale(const float *x, int n) {
  float extremum = 0;
  for (int i = 0; i < n; ++i)
    if (std::fabs(x[i]) > std::fabs(extremum))
      extremum = x[i];
  uint16_t best = 0x3c00;
  float bestError = std::numeric_limits<float>::infinity();
  auto attempt = [&](float scale) {
    scale = std::clamp(scale, -65504.0f, 65504.0f);
    uint16_t half = floatToF16(scale);
    if (!isUsable(half))
      return;
    float error = int4Error(x, n, f16ToFloat(half));
    if (error < bestError) {
      bestError = error;
      best = half;
    }
  };
  // The extremum lands between -7.2 and -10.3 steps: from a slightly wider
  // range to one that clips it.
  constexpr int kCandidates = 32;
  for (int i = 0; i < kCandidates; ++i)
    attempt(-extremum / (7.2f + 0.1f * float(i)));
  attempt(refitScale(x, n, f16ToFloat(best)));
  return best;
}

QuantError quantizeInt4Row(std::span<const float> x, int group, uint8_t *codes,
                           uint16_t *scales) {
  QuantError total;
  for (size_t g = 0; g < x.size() / size_t(group); ++g) {
    const float *v = x.data() + g * size_t(group);
    scales[g] = searchInt4Scale(v, group);
    const float scale = f16ToFloat(scales[g]), inverse = 1.0f / scale;
    uint8_t *out = codes + g * size_t(group) / 2;
    for (int i = 0; i < group; i += 2) {
      float low = roundToInt4(v[i] * inverse);
      float high = roundToInt4(v[i + 1] * inverse);
      out[i / 2] = uint8_t((int(low) + 8) | ((int(high) + 8) << 4));
      float a = v[i] - low * scale, b = v[i + 1] - high * scale;
      total.error += double(a) * a + double(b) * b;
      total.norm += double(v[i]) * v[i] + double(v[i + 1]) * v[i + 1];
    }
  }
  return total;
}

void quantizeInt8Row(std::span<const float> x, int group, uint8_t *codes,
                     uint16_t *scales) {
  // Both digits are then from -8 to 7, as l stands for the nearest multiple.
  constexpr float kLargest = 119;
  const size_t groups = x.size() / size_t(group);
  uint8_t *high = codes, *low = codes + x.size() / 2;
  for (size_t g = 0; g < groups; ++g) {
    const auto values = x.subspan(g * size_t(group), size_t(group));
    float largest = 0;
    for (float value : values)
      largest = std::max(largest, std::fabs(value));
    uint16_t half = floatToF16(largest / kLargest);
    // Rounded down it would not reach the largest; the last step may be missed.
    half = isUsable(half) ? half : 0x0001;
    const float scale = f16ToFloat(half);
    scales[g] = floatToF16(16 * scale);
    scales[groups + g] = half;
    for (size_t i = 0; i < values.size(); ++i) {
      const int q =
          int(std::lrint(std::clamp(values[i] / scale, -kLargest, kLargest)));
      const int h = (q + 8) >> 4, l = q - 16 * h;
      const int shift = i % 2 == 0 ? 0 : 4;
      const size_t at = (g * size_t(group) + i) / 2;
      high[at] = uint8_t((shift ? high[at] : 0) | (h + 8) << shift);
      low[at] = uint8_t((shift ? low[at] : 0) | (l + 8) << shift);
    }
  }
}

/// The nearest E2M1 magnitude to `a` >= 0, ties to the even code.
static float roundToE2m1(float a) {
  return (a > 0.25f ? 0.5f : 0.0f) + (a >= 0.75f ? 0.5f : 0.0f) +
         (a > 1.25f ? 0.5f : 0.0f) + (a >= 1.75f ? 0.5f : 0.0f) +
         (a > 2.5f ? 1.0f : 0.0f) + (a >= 3.5f ? 1.0f : 0.0f) +
         (a > 5.0f ? 2.0f : 0.0f);
}

static float nvFp4Error(const float *x, float scale) {
  const float inverse = 1.0f / scale;
  float lanes[kLanes] = {};
  for (int i = 0; i < kBlock; i += kLanes)
    for (int j = 0; j < kLanes; ++j) {
      float a = std::fabs(x[i + j]);
      float d = a - roundToE2m1(a * inverse) * scale;
      lanes[j] += d * d;
    }
  return sum(lanes);
}

static std::array<float, 128> makeE4m3Values() {
  std::array<float, 128> values;
  for (int i = 0; i < 128; ++i)
    values[size_t(i)] = e4m3ToFloat(uint8_t(i));
  return values;
}

float nvFp4GlobalScale(float largest) {
  float scale = largest / (kE2m1Max * kE4m3Max);
  return std::isnormal(scale) ? scale : 1.0f;
}

QuantError quantizeNvFp4Row(std::span<const float> x, float global,
                            uint8_t *codes, uint8_t *scales) {
  static const std::array<float, 128> kE4m3 = makeE4m3Values();
  QuantError total;
  for (size_t b = 0; b < x.size() / kBlock; ++b) {
    const float *v = x.data() + b * kBlock;
    float largest = 0;
    for (int i = 0; i < kBlock; ++i)
      largest = std::max(largest, std::fabs(v[i]));
    // From three steps finer, which clips, to two coarser.
    int centre = floatToE4m3(largest / (kE2m1Max * global));
    int best = std::clamp(centre, 1, 0x7e);
    float bestError = nvFp4Error(v, kE4m3[size_t(best)] * global);
    for (int c = std::max(1, centre - 3); c <= std::min(0x7e, centre + 2);
         ++c) {
      float error = nvFp4Error(v, kE4m3[size_t(c)] * global);
      if (error < bestError) {
        bestError = error;
        best = c;
      }
    }
    scales[b] = uint8_t(best);
    const float scale = kE4m3[size_t(best)] * global, inverse = 1.0f / scale;
    for (int i = 0; i < kBlock; ++i) {
      uint8_t code = floatToE2m1(v[i] * inverse);
      code = code == 8 ? 0 : code; // no negative zeros
      uint8_t &byte = codes[b * kBlock / 2 + size_t(i / 2)];
      byte = i & 1 ? uint8_t(byte | (code << 4)) : code;
      double d = double(v[i]) - double(e2m1ToFloat(code)) * scale;
      total.error += d * d;
      total.norm += double(v[i]) * v[i];
    }
  }
  return total;
}

} // namespace lathe
