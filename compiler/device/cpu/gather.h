//===- gather.h - embedding rows --------------------------------*- C++ -*-===//
//
// Writes one row of an embedding table as floats: from a packed weight (the
// table is also the output head) or from a plain row-major one.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_GATHER_H
#define LATHE_COMPILER_DEVICE_CPU_GATHER_H

#include "compiler/device/cpu/formats.h"

namespace lathe {

/// A row-major table [rows][K] of the elements of a float format.
template <class Format> struct Plain {};

LATHE_INLINE f32x16 loadAs(F32, const void *p) {
  return load((const float *)p);
}
LATHE_INLINE f32x16 loadAs(F16, const void *p) {
  typedef _Float16 unaligned __attribute__((ext_vector_type(16), aligned(2)));
  return __builtin_convertvector(*(const unaligned *)p, f32x16);
}
LATHE_INLINE f32x16 loadAs(Bf16, const void *p) {
  typedef u16 unaligned __attribute__((ext_vector_type(16), aligned(2)));
  u32x16 wide = __builtin_convertvector(*(const unaligned *)p, u32x16);
  return __builtin_bit_cast(f32x16, wide << 16);
}

template <int K, class Format>
LATHE_INLINE void gatherFrom(Plain<Format>, const u8 *table, int row,
                             float *out) {
  static_assert(K % 16 == 0, "rows are read in whole vectors");
  constexpr int size = Format::tileBytes(16) / 256;
  for (int k = 0; k < K; k += 16)
    store(out + k, loadAs(Format(), table + ((i64)row * K + k) * size));
}

/// A packed tile holds a column's sixteen rows side by side.
template <int K, class Format>
LATHE_INLINE void gatherFrom(Format, const u8 *packed, int row, float *out) {
  const u8 *tile = packed + row / LATHE_LANES * Format::tileBytes(K);
  const int lane = row % LATHE_LANES;
  for (int k = 0; k < strideOf(K); k += 16) {
    if constexpr (!Format::kQuantized) {
      f32x16 w[16];
      Format::unpack16(tile, k, w);
      for (int i = 0; i < 16; ++i)
        out[k + i] = w[i][lane];
    } else {
      u8x64 w[4];
      Format::unpack16(Format::codes(tile, k), w);
      const int group = k / Format::kGroup;
      const float scale =
          Format::finish(tile, Format::scale(tile, group))[lane];
      // The seed of a sum of one is minus the zero point.
      const int zero = -Format::seed(tile, group, 1)[lane];
      for (int i = 0; i < 16; ++i)
        out[k + i] = scale * (float)(w[i / 4][4 * lane + i % 4] - zero);
    }
  }
}

/// out[0, K) = row `row` of a packed weight, or of a Plain<Format> table.
template <class Format, int K>
LATHE_INLINE void gatherRow(const void *table, int row, float *out) {
  gatherFrom<K>(Format(), (const u8 *)table, row, out);
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_GATHER_H
