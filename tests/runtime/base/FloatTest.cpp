#include "runtime/base/Float.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace lathe {
namespace {

TEST(Float, EveryF16SurvivesARoundTrip) {
  for (uint32_t h = 0; h < 65536; ++h) {
    float f = f16ToFloat(uint16_t(h));
    if (!std::isnan(f))
      EXPECT_EQ(floatToF16(f), h) << h;
  }
}

TEST(Float, F16RoundsToNearestEven) {
  EXPECT_EQ(floatToF16(1.0f + 0x1p-11f), 0x3c00); // tie, down to even
  EXPECT_EQ(floatToF16(1.0f + 0x3p-11f), 0x3c02); // tie, up to even
  EXPECT_EQ(floatToF16(1.0f + 0x1p-11f + 0x1p-20f), 0x3c01);
  EXPECT_EQ(floatToF16(0x1p-25f), 0); // half the least
  EXPECT_EQ(floatToF16(65519.0f), 0x7bff);
  EXPECT_EQ(floatToF16(65520.0f), 0x7c00);
}

TEST(Float, Bf16RoundsToNearestEven) {
  EXPECT_EQ(floatToBf16(1.0f), 0x3f80);
  EXPECT_EQ(floatToBf16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(floatToBf16(1.0f + 0x3p-8f), 0x3f82);
  EXPECT_TRUE(std::isnan(
      bf16ToFloat(floatToBf16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(Float, EveryE4m3SurvivesARoundTrip) {
  for (uint32_t e = 0; e < 256; ++e) {
    float f = e4m3ToFloat(uint8_t(e));
    if (!std::isnan(f))
      EXPECT_EQ(floatToE4m3(f), e) << e;
  }
  EXPECT_TRUE(std::isnan(e4m3ToFloat(0x7f)));
  EXPECT_EQ(e4m3ToFloat(0x7e), 448.0f);
  EXPECT_EQ(e4m3ToFloat(0x01), 0x1p-9f);
}

TEST(Float, E4m3RoundsToTheNearestValue) {
  for (float f = -460; f < 460; f += 0.37f) {
    float nearest = 0, best = std::numeric_limits<float>::infinity();
    for (uint32_t e = 0; e < 256; ++e) {
      float v = e4m3ToFloat(uint8_t(e));
      if (std::fabs(v - f) < best) {
        best = std::fabs(v - f);
        nearest = v;
      }
    }
    EXPECT_EQ(std::fabs(e4m3ToFloat(floatToE4m3(f)) - f),
              std::fabs(nearest - f))
        << f;
  }
}

TEST(Float, E2m1HasTheSpecifiedValues) {
  const float values[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  for (uint8_t i = 0; i < 8; ++i) {
    EXPECT_EQ(e2m1ToFloat(i), values[i]);
    EXPECT_EQ(e2m1ToFloat(i | 8), -values[i]);
    EXPECT_EQ(floatToE2m1(values[i]), i);
  }
  EXPECT_EQ(floatToE2m1(2.5f), 4); // tie between 2 and 3, to the even code
  EXPECT_EQ(floatToE2m1(100.0f), 7);
}

} // namespace
} // namespace lathe
