#include "runtime/base/Float.h"

#include <cmath>
#include <limits>

namespace lathe {

float f16ToFloat(uint16_t h) {
  uint32_t sign = uint32_t(h & 0x8000) << 16;
  uint32_t exponent = (h >> 10) & 31, mantissa = h & 1023;
  if (exponent == 31)
    return std::bit_cast<float>(sign | 0x7f800000 | (mantissa << 13));
  if (exponent == 0)
    return std::copysign(std::ldexp(float(mantissa), -24),
                         std::bit_cast<float>(sign | 0x3f800000));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) |
                              (mantissa << 13));
}

uint16_t floatToF16(float f) {
  uint32_t u = std::bit_cast<uint32_t>(f);
  uint16_t sign = uint16_t((u >> 16) & 0x8000);
  uint32_t magnitude = u & 0x7fffffff;
  if (magnitude > 0x7f800000)
    return sign | 0x7e00;
  if (magnitude >= 0x477ff000) // rounds to 65536 or more
    return sign | 0x7c00;
  if (magnitude < 0x38800000) // subnormal: count units of 2^-24
    return sign | uint16_t(std::nearbyint(std::ldexp(std::fabs(f), 24)));
  uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return sign | uint16_t((rounded - 0x38000000) >> 13);
}

float e4m3ToFloat(uint8_t e) {
  int exponent = (e >> 3) & 15, mantissa = e & 7;
  float sign = e & 0x80 ? -1.0f : 1.0f;
  if ((e & 0x7f) == 0x7f)
    return std::numeric_limits<float>::quiet_NaN();
  if (exponent == 0)
    return sign * std::ldexp(float(mantissa), -9);
  return sign * std::ldexp(float(8 + mantissa), exponent - 10);
}

uint8_t floatToE4m3(float f) {
  uint8_t sign = std::signbit(f) ? 0x80 : 0;
  float a = std::fabs(f);
  if (std::isnan(f))
    return sign | 0x7f;
  if (a >= 448.0f)
    return sign | 0x7e;
  if (a < 0x1p-6f)
    return sign | uint8_t(std::nearbyint(std::ldexp(a, 9)));
  int exponent = std::ilogb(a);
  int mantissa = int(std::nearbyint(std::ldexp(a, 3 - exponent)));
  return sign | uint8_t(((exponent + 7) << 3) + (mantissa - 8));
}

static constexpr float kE2m1[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};

float e2m1ToFloat(uint8_t e) { return e & 8 ? -kE2m1[e & 7] : kE2m1[e & 7]; }

uint8_t floatToE2m1(float f) {
  // Midpoints between neighbours; a tie goes to the even code.
  static constexpr float kMid[7] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5};
  float a = std::fabs(f);
  uint8_t code = 0;
  for (int i = 0; i < 7; ++i)
    if (a > kMid[i] || (a == kMid[i] && (i & 1)))
      code = uint8_t(i + 1);
  return code | (std::signbit(f) ? 8 : 0);
}

} // namespace lathe
