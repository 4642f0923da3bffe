//===- Float.h - narrow floating-point conversions --------------*- C++ -*-===//
//
// Exact conversions between float and the storage types of checkpoints. The
// narrowing ones round to nearest, ties to even. E2M1 and E4M3 follow the OCP
// Microscaling and OFP8 specifications (E4M3 is the FN variant: no infinity,
// NaN at 0x7F and 0xFF, largest value 448).
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_BASE_FLOAT_H
#define LATHE_RUNTIME_BASE_FLOAT_H

#include <bit>
#include <cstdint>

namespace lathe {

inline float bf16ToFloat(uint16_t h) {
  return std::bit_cast<float>(uint32_t(h) << 16);
}

inline uint16_t floatToBf16(float f) {
  uint32_t u = std::bit_cast<uint32_t>(f);
  if ((u & 0x7fffffff) > 0x7f800000)
    return uint16_t(u >> 16) | 0x40;
  return uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

float f16ToFloat(uint16_t h);
uint16_t floatToF16(float f);

/// The value of an E4M3FN byte; NaN for 0x7F and 0xFF.
float e4m3ToFloat(uint8_t e);
/// The nearest E4M3FN byte; saturates at 448.
uint8_t floatToE4m3(float f);

/// The value of an E2M1 code in the low four bits of `e`.
float e2m1ToFloat(uint8_t e);
/// The nearest E2M1 code; saturates at 6.
uint8_t floatToE2m1(float f);

} // namespace lathe

#endif // LATHE_RUNTIME_BASE_FLOAT_H
