//===- QuantizeMath.h - rounding one row to few bits ------------*- C++ -*-===//
//
// Round to nearest, with a search over scales for the least squared error.
// Pure functions; x holds finite values.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_QUANTIZEMATH_H
#define LATHE_RUNTIME_IO_QUANTIZEMATH_H

#include <cstdint>
#include <span>

namespace lathe {

/// Sums over the elements of a row, or of many.
struct QuantError {
  double error = 0; ///< (x - quantised x)^2
  double norm = 0;  ///< x^2
};

/// Symmetric INT4: x is about f16(scale) * (code - 8). The scale's sign is
/// chosen so that the group's extremum lies on code 0, the far end of the
/// range. `group` is a multiple of 8 that divides x.size(). Writes x.size() / 2
/// bytes of codes, low nibble first, and x.size() / group scales.
QuantError quantizeInt4Row(std::span<const float> x, int group, uint8_t *codes,
                           uint16_t *scales);

/// INT8: x is about f16(scale) * q with |q| <= 119, written as two rows of
/// symmetric INT4 of the same group, q = 16 h + l: x.size() / 2 bytes of h with
/// scales 16 times as large, then as many of l; the scales likewise.
void quantizeInt8Row(std::span<const float> x, int group, uint8_t *codes,
                     uint16_t *scales);

/// NVFP4: x is about e2m1(code) * e4m3(scale) * global, in blocks of 16.
QuantError quantizeNvFp4Row(std::span<const float> x, float global,
                            uint8_t *codes, uint8_t *scales);

/// The global scale of a tensor whose largest magnitude is `largest`: block
/// scales then just reach E4M3's 448.
float nvFp4GlobalScale(float largest);

} // namespace lathe

#endif // LATHE_RUNTIME_IO_QUANTIZEMATH_H
