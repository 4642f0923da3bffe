//===- dot.h - unsigned-by-signed byte dot products -------------*- C++ -*-===//
//
// The integer core of the quantised linear kernels. Lane r of every vector
// belongs to row r of a weight tile. Sixteen columns of weights are four
// vectors of 64 bytes; lane r of vector i holds columns 4i..4i+3 of row r as
// unsigned bytes of at most 24, and meets the same four signed activation
// bytes in every lane.
//
// Integer sums are exact, so every instruction set and every blocking agree.
// Without VNNI, byte products are summed in 16 bits over the four vectors:
// 4 * 2 * 24 * 127 = 24384 fits.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_DOT_H
#define LATHE_COMPILER_DEVICE_CPU_DOT_H

#include "compiler/device/cpu/prelude.h"

namespace lathe {

typedef signed char i8x16 __attribute__((ext_vector_type(16)));
typedef unsigned char u8x32 __attribute__((ext_vector_type(32)));
typedef signed char i8x32 __attribute__((ext_vector_type(32)));
typedef unsigned char u8x64 __attribute__((ext_vector_type(64)));
typedef signed char i8x64 __attribute__((ext_vector_type(64)));
typedef short i16x16 __attribute__((ext_vector_type(16)));
typedef short i16x32 __attribute__((ext_vector_type(32)));
typedef int i32x8 __attribute__((ext_vector_type(8)));
typedef int i32Alias __attribute__((may_alias, aligned(1)));

/// Four activation bytes in every lane.
LATHE_INLINE i32x16 splatBytes(const i8 *a) {
  return (i32x16)(*(const i32Alias *)a);
}

#if defined(__AVX512VNNI__)

/// Row tiles that the matmul micro-kernel can hold in registers, and tokens
/// that one pass of the matvec can.
constexpr int kRegisterTiles = 4;
constexpr int kMatvecTokens = 8;

typedef int v16si __attribute__((vector_size(64)));
typedef signed char v64qi __attribute__((vector_size(64)));
typedef unsigned char v64qu __attribute__((vector_size(64)));

LATHE_INLINE i32x16 dot4(i32x16 acc, u8x64 w, i32x16 a) {
  return (i32x16)__builtin_ia32_vpdpbusd512((v16si)acc, (v64qu)w, (v64qi)a);
}

/// acc += w . a over 16 columns.
LATHE_INLINE i32x16 dot16(i32x16 acc, const u8x64 *w, const i8 *a) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
    acc = dot4(acc, w[i], splatBytes(a + 4 * i));
  return acc;
}

/// acc[t][r] += w[r] . a[t] over 16 columns for Tiles row tiles and a block of
/// tokens. Weights are [16/4][Tiles][64]; tokens are `stride` bytes apart.
template <int Tiles, int Tokens>
LATHE_INLINE void dotBlock(i32x16 (&acc)[Tokens][Tiles], const u8x64 *w,
                           const i8 *a, int stride) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int t = 0; t < Tokens; ++t) {
      i32x16 x = splatBytes(a + t * stride + 4 * i);
#pragma unroll
      for (int r = 0; r < Tiles; ++r)
        acc[t][r] = dot4(acc[t][r], w[i * Tiles + r], x);
    }
  }
}

#else

constexpr int kRegisterTiles = 1;
constexpr int kMatvecTokens = 4;

#if defined(__AVX512BW__)
typedef int v16si __attribute__((vector_size(64)));
typedef short v32hi __attribute__((vector_size(64)));
typedef signed char v64qi __attribute__((vector_size(64)));

LATHE_INLINE i16x32 multiplyBytes(u8x64 w, i32x16 a) {
  return (i16x32)__builtin_ia32_pmaddubsw512((v64qi)w, (v64qi)a);
}
LATHE_INLINE i32x16 addPairs(i16x32 v) {
  i16x32 ones = (i16x32)(short)1;
  return (i32x16)__builtin_ia32_pmaddwd512((v32hi)v, (v32hi)ones);
}
#else
typedef int v8si __attribute__((vector_size(32)));
typedef short v16hi __attribute__((vector_size(32)));
typedef signed char v32qi __attribute__((vector_size(32)));

LATHE_INLINE i16x16 multiplyHalf(u8x32 w, i32x8 a) {
  return (i16x16)__builtin_ia32_pmaddubsw256((v32qi)w, (v32qi)a);
}
LATHE_INLINE i32x8 addPairsHalf(i16x16 v) {
  i16x16 ones = (i16x16)(short)1;
  return (i32x8)__builtin_ia32_pmaddwd256((v16hi)v, (v16hi)ones);
}
LATHE_INLINE i16x32 multiplyBytes(u8x64 w, i32x16 a) {
  i16x32 r;
  r.lo = multiplyHalf(w.lo, a.lo);
  r.hi = multiplyHalf(w.hi, a.hi);
  return r;
}
LATHE_INLINE i32x16 addPairs(i16x32 v) {
  i32x16 r;
  r.lo = addPairsHalf(v.lo);
  r.hi = addPairsHalf(v.hi);
  return r;
}
#endif

LATHE_INLINE i32x16 dot16(i32x16 acc, const u8x64 *w, const i8 *a) {
  i16x32 s = multiplyBytes(w[0], splatBytes(a));
#pragma unroll
  for (int i = 1; i < 4; ++i)
    s += multiplyBytes(w[i], splatBytes(a + 4 * i));
  return acc + addPairs(s);
}

template <int Tiles, int Tokens>
LATHE_INLINE void dotBlock(i32x16 (&acc)[Tokens][Tiles], const u8x64 *w,
                           const i8 *a, int stride) {
  static_assert(Tiles == 1);
#pragma unroll
  for (int t = 0; t < Tokens; ++t)
    acc[t][0] = dot16(acc[t][0], w, a + t * stride);
}

#endif

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_DOT_H
