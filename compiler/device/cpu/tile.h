//===- tile.h - register-blocked float products for the CPU -----*- C++ -*-===//
//
// The inner product loop that the chunked delta rule and prefill attention
// share, with the transposes and lane reductions around it.
//
// multiply() adds A B to a tile of rows x (16 * vectors) accumulators that
// stay in registers. B is read as vectors along its rows; the operands are
// small and packed into panels (16 * vectors columns, contiguous) by the
// callers, because rows that are a power of two apart collide in L1.
//
// Each accumulator is one chain of fma in the order of k, so a result does not
// depend on the tile's shape.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_TILE_H
#define LATHE_COMPILER_DEVICE_CPU_TILE_H

#include "compiler/device/cpu/prelude.h"

namespace lathe {

// 16 accumulators of 32 registers; with AVX2 a vector takes two of 16.
#ifdef __AVX512F__
constexpr int kTileRows = 8;
constexpr int kTileVectors = 2;
constexpr int kAccumulators = 16;
#else
constexpr int kTileRows = 4;
constexpr int kTileVectors = 1;
constexpr int kAccumulators = 4;
#endif

/// Vectors per panel of a matrix `width` floats wide.
LATHE_INLINE constexpr int panelVectors(int width) {
  return width % (16 * kTileVectors) == 0 ? kTileVectors : 1;
}

// Elements of a cache are float or bfloat16 (its upper 16 bits as u16).
LATHE_INLINE f32x16 loadAs(const float *p) { return load(p); }
LATHE_INLINE f32x16 loadAs(const u16 *p) {
  typedef u16 u16x16_u __attribute__((ext_vector_type(16), aligned(2)));
  u32x16 bits = __builtin_convertvector(*(const u16x16_u *)p, u32x16) << 16;
  return __builtin_bit_cast(f32x16, bits);
}
LATHE_INLINE void storeAs(float *p, f32x16 v) { store(p, v); }
LATHE_INLINE void storeAs(u16 *p, f32x16 v) {
  typedef u16 u16x16_u __attribute__((ext_vector_type(16), aligned(2)));
  // Round to nearest even on the discarded half; a NaN keeps its top bits.
  u32x16 bits = __builtin_bit_cast(u32x16, v);
  u32x16 rounded = bits + 0x7fff + ((bits >> 16) & 1);
  u32x16 quiet = bits | 0x400000;
  u32x16 picked = v == v ? rounded : quiet;
  *(u16x16_u *)p = __builtin_convertvector(picked >> 16, u16x16);
}

template <int kRows, int kVectors> struct Tile {
  f32x16 v[kRows][kVectors];
};

/// acc[r][:] += sum over k < count of a[r * aRow + k * aStep] * b[k * bStep].
template <int kRows, int kVectors, class B>
LATHE_INLINE void multiply(Tile<kRows, kVectors> &acc, const float *a, int aRow,
                           int aStep, const B *b, int bStep, int count) {
  for (int k = 0; k < count; ++k) {
    f32x16 row[kVectors];
#pragma unroll
    for (int j = 0; j < kVectors; ++j)
      row[j] = loadAs(b + (i64)k * bStep + j * 16);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      f32x16 x = splat(a[(i64)r * aRow + (i64)k * aStep]);
#pragma unroll
      for (int j = 0; j < kVectors; ++j)
        acc.v[r][j] = fma(x, row[j], acc.v[r][j]);
    }
  }
}

/// Sixteen sums at once: lane i is sum(v[i]), added in the same order.
LATHE_INLINE f32x16 sumEach(const f32x16 *v) {
  f32x16 a[8], b[4], c[2];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    f32x16 x = v[i], y = v[i + 8];
    a[i] = __builtin_shufflevector(x, y, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19,
                                   20, 21, 22, 23) +
           __builtin_shufflevector(x, y, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25,
                                   26, 27, 28, 29, 30, 31);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    f32x16 x = a[i], y = a[i + 4];
    b[i] = __builtin_shufflevector(x, y, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10,
                                   11, 24, 25, 26, 27) +
           __builtin_shufflevector(x, y, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14,
                                   15, 28, 29, 30, 31);
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    f32x16 x = b[i], y = b[i + 2];
    c[i] = __builtin_shufflevector(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24,
                                   25, 12, 13, 28, 29) +
           __builtin_shufflevector(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26,
                                   27, 14, 15, 30, 31);
  }
  return __builtin_shufflevector(c[0], c[1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24,
                                 10, 26, 12, 28, 14, 30) +
         __builtin_shufflevector(c[0], c[1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25,
                                 11, 27, 13, 29, 15, 31);
}

/// Transposes 16 rows of 16 in place: four rounds of perfect shuffles.
LATHE_INLINE void transpose(f32x16 (&m)[16]) {
#pragma unroll
  for (int round = 0; round < 4; ++round) {
    f32x16 t[16];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      t[2 * i] = __builtin_shufflevector(m[i], m[i + 8], 0, 16, 1, 17, 2, 18, 3,
                                         19, 4, 20, 5, 21, 6, 22, 7, 23);
      t[2 * i + 1] =
          __builtin_shufflevector(m[i], m[i + 8], 8, 24, 9, 25, 10, 26, 11, 27,
                                  12, 28, 13, 29, 14, 30, 15, 31);
    }
#pragma unroll
    for (int i = 0; i < 16; ++i)
      m[i] = t[i];
  }
}

/// to[c][r] = from[r][c] for `rows` rows of `width` floats; up to a multiple
/// of 16, the rows that are missing become zero. `width` is a multiple of 16.
template <class From>
static void packTransposed(const From *from, int fromStride, int rows,
                           int width, float *to, int toStride) {
  for (int r = 0; r < rows; r += 16)
    for (int c = 0; c < width; c += 16) {
      f32x16 m[16];
#pragma unroll
      for (int i = 0; i < 16; ++i)
        m[i] = r + i < rows ? loadAs(from + (i64)(r + i) * fromStride + c)
                            : splat(0.0f);
      transpose(m);
#pragma unroll
      for (int i = 0; i < 16; ++i)
        store(to + (i64)(c + i) * toStride + r, m[i]);
    }
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_TILE_H
