#include "runtime/io/QuantizeMath.h"

#include "runtime/base/Float.h"
#include "runtime/base/Weight.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace lathe {

static std::vector<float> gaussian(size_t n) {
  std::mt19937 generator(7);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> x(n);
  for (float &v : x)
    v = normal(generator);
  return x;
}

static HostWeight int4(const std::vector<float> &x, int group,
                       QuantError *error = nullptr) {
  HostWeight w;
  w.desc = {.format = WeightFormat::Int4,
            .rows = 1,
            .cols = int64_t(x.size()),
            .group = group};
  w.data.resize(x.size() / 2);
  w.scales.resize(x.size() / size_t(group));
  QuantError e = quantizeInt4Row(x, group, w.data.data(), w.scales.data());
  if (error)
    *error = e;
  return w;
}

TEST(QuantizeInt4, ThePositiveExtremumGetsANegativeScale) {
  std::vector<float> x(32, 0.1f);
  x[5] = 8.0f;
  HostWeight w = int4(x, 32);
  EXPECT_LT(f16ToFloat(w.scales[0]), 0.0f);
  EXPECT_EQ(w.data[2] >> 4, 0);
}

TEST(QuantizeInt4, TheNegativeExtremumGetsAPositiveScale) {
  std::vector<float> x(32, 0.1f);
  x[5] = -8.0f;
  HostWeight w = int4(x, 32);
  EXPECT_GT(f16ToFloat(w.scales[0]), 0.0f);
  EXPECT_EQ(w.data[2] >> 4, 0);
}

TEST(QuantizeInt4, RepresentableGroupsAreExact) {
  std::vector<float> x;
  for (int i = 0; i < 32; ++i)
    x.push_back(0.25f * float(i % 16 - 8));
  HostWeight w = int4(x, 32);
  std::vector<float> back(32);
  w.dequantizeRow(0, back.data());
  EXPECT_EQ(back, x);
}

TEST(QuantizeInt4, ZerosStayZero) {
  std::vector<float> x(64, 0.0f), back(64, 1.0f);
  int4(x, 32).dequantizeRow(0, back.data());
  EXPECT_EQ(back, x);
}

TEST(QuantizeInt4, ReportsTheErrorOfWhatItWrote) {
  std::vector<float> x = gaussian(1024), back(1024);
  QuantError error;
  int4(x, 128, &error).dequantizeRow(0, back.data());
  double squared = 0;
  for (size_t i = 0; i < x.size(); ++i)
    squared += std::pow(double(x[i]) - back[i], 2);
  EXPECT_NEAR(error.error, squared, squared * 1e-5);
}

TEST(QuantizeInt4, TheSearchBeatsThePlainRange) {
  std::vector<float> x = gaussian(4096);
  QuantError error;
  int4(x, 128, &error);
  double plain = 0;
  for (size_t g = 0; g < x.size(); g += 128) {
    float largest = 0;
    for (size_t i = g; i < g + 128; ++i)
      largest = std::max(largest, std::fabs(x[i]));
    float scale = largest / 7;
    for (size_t i = g; i < g + 128; ++i)
      plain += std::pow(x[i] - scale * std::round(x[i] / scale), 2);
  }
  EXPECT_LT(error.error, 0.85 * plain);
}

/// What the two digits of a row come to, and a row of INT4 that holds both.
static std::vector<float> int8(const std::vector<float> &x, int group) {
  HostWeight w;
  w.desc = {.format = WeightFormat::Int4,
            .rows = 1,
            .cols = int64_t(2 * x.size()),
            .group = group};
  w.data.resize(x.size(), 0xff);
  w.scales.resize(2 * x.size() / size_t(group));
  quantizeInt8Row(x, group, w.data.data(), w.scales.data());
  std::vector<float> digits(2 * x.size()), sum(x.size());
  w.dequantizeRow(0, digits.data());
  for (size_t i = 0; i < x.size(); ++i)
    sum[i] = digits[i] + digits[x.size() + i];
  return sum;
}

TEST(QuantizeInt8, EveryStepOfTheRangeIsExact) {
  std::vector<float> x;
  for (int i = -119; i <= 119; ++i)
    x.push_back(float(i) / 64);
  while (x.size() % 8 != 0)
    x.push_back(0);
  EXPECT_EQ(int8(x, int(x.size())), x);
}

TEST(QuantizeInt8, ErrsByHalfAStep) {
  const auto x = gaussian(512);
  const auto y = int8(x, 128);
  for (size_t g = 0; g < 4; ++g) {
    float largest = 0;
    for (size_t i = g * 128; i < g * 128 + 128; ++i)
      largest = std::max(largest, std::fabs(x[i]));
    for (size_t i = g * 128; i < g * 128 + 128; ++i)
      EXPECT_NEAR(y[i], x[i], largest / 119 * 0.51f);
  }
}

TEST(QuantizeInt8, ZerosStayZero) {
  EXPECT_EQ(int8(std::vector<float>(64, 0.0f), 32),
            std::vector<float>(64, 0.0f));
}

TEST(QuantizeNvFp4, ReportsTheErrorOfWhatItWrote) {
  std::vector<float> x = gaussian(1024), back(1024);
  HostWeight w;
  w.desc = {
      .format = WeightFormat::NvFp4, .rows = 1, .cols = 1024, .group = 16};
  w.data.resize(512);
  w.blockScales.resize(64);
  w.globalScale = nvFp4GlobalScale(0.09f);
  QuantError error =
      quantizeNvFp4Row(x, w.globalScale, w.data.data(), w.blockScales.data());
  w.dequantizeRow(0, back.data());
  double squared = 0;
  for (size_t i = 0; i < x.size(); ++i)
    squared += std::pow(double(x[i]) - back[i], 2);
  EXPECT_NEAR(error.error, squared, squared * 1e-5);
  EXPECT_LT(error.error / error.norm, 0.011);
}

TEST(QuantizeNvFp4, ZerosStayZero) {
  std::vector<float> x(16, -0.0f);
  std::vector<uint8_t> codes(8, 0xff), scales(1);
  quantizeNvFp4Row(x, 1.0f, codes.data(), scales.data());
  EXPECT_EQ(codes, std::vector<uint8_t>(8, 0));
}

TEST(QuantizeNvFp4, TheGlobalScaleOfAnEmptyRangeIsUsable) {
  EXPECT_EQ(nvFp4GlobalScale(0.0f), 1.0f);
  EXPECT_EQ(nvFp4GlobalScale(2688.0f), 1.0f);
}

} // namespace lathe
