//===- formats.h - packed weight formats ------------------------*- C++ -*-===//
//
// A packed weight W[N, K] is a row of tiles; a tile holds 16 rows and all K
// columns, starts on 64 bytes, and lane r of its vectors belongs to row r. So
// a thread streams its share of the weight front to back, and no sum crosses
// lanes. N is padded to 16 and, for float formats, K to 16, with zeros. The
// packer is runtime/memory/PackCpu.cpp.
//
//   F32        float [K][16]
//   F16        half  [K][16]
//   Bf16       bf16  [K/2][16][2]                 a lane holds columns k, k+1
//   Int4<G>         blocks of 2 groups: half [2][16] scales, codes
//   Int4<G, true>   blocks of 4 groups: half [4][16] scales, u8 [4][16] zero
//                   points, codes
//   NvFp4           float [16] row scales, then blocks of 4 groups of 16
//                   columns: e4m3 [4][16] scales, codes
//
// The codes of a block are [columns/8][16][4]; the last block may hold fewer
// groups, its scales are padded. Scales stand among the codes because a tile
// must be one ascending stream: with all scales in front of the codes, two
// streams, Zen 4 read tiles above 16 KB from memory at half the speed.
// Byte j of a lane's four code bytes holds column j in its low nibble and
// column 4 + j in its high nibble, so that a mask and a shift yield operands of
// the byte dot product.
//
// A quantised format presents itself as unsigned codes u <= 24 with
// W = finish(scale(group) * (u - zero)), an exact integer apart from scales.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_FORMATS_H
#define LATHE_COMPILER_DEVICE_CPU_FORMATS_H

#include "compiler/device/cpu/dot.h"

namespace lathe {

/// Bytes of codes that sixteen columns of a quantised tile take.
constexpr int kCodeBytes16 = 128;

LATHE_INLINE u8x64 lowNibbles(u8x64 v) { return v & (u8)15; }
LATHE_INLINE u8x64 highNibbles(u8x64 v) {
  return (u8x64)((i16x32)v >> 4) & (u8)15;
}

struct F32 {
  static constexpr bool kQuantized = false;
  static constexpr i64 tileBytes(int columns) {
    return 64ll * strideOf(columns);
  }
  LATHE_INLINE void unpack16(const u8 *tile, int k, f32x16 (&w)[16]) {
#pragma unroll
    for (int i = 0; i < 16; ++i)
      w[i] = *(const f32x16 *)(tile + 64ll * (k + i));
  }
};

struct F16 {
  static constexpr bool kQuantized = false;
  static constexpr i64 tileBytes(int columns) {
    return 32ll * strideOf(columns);
  }
  LATHE_INLINE void unpack16(const u8 *tile, int k, f32x16 (&w)[16]) {
#pragma unroll
    for (int i = 0; i < 16; ++i)
      w[i] = __builtin_convertvector(*(const f16x16 *)(tile + 32ll * (k + i)),
                                     f32x16);
  }
};

struct Bf16 {
  static constexpr bool kQuantized = false;
  static constexpr i64 tileBytes(int columns) {
    return 32ll * strideOf(columns);
  }
  LATHE_INLINE void unpack16(const u8 *tile, int k, f32x16 (&w)[16]) {
#pragma unroll
    for (int i = 0; i < 16; i += 2) {
      u32x16 pair = *(const u32x16 *)(tile + 32ll * (k + i));
      w[i] = __builtin_bit_cast(f32x16, pair << 16);
      w[i + 1] = __builtin_bit_cast(f32x16, pair & 0xffff0000u);
    }
  }
};

/// A quantised tile: Front bytes, then blocks of Groups groups, each a header
/// of Header bytes before its codes.
template <int Front, int Group, int Groups, int Header> struct BlockLayout {
  static constexpr int kColumns = Group * Groups;
  static constexpr i64 kBytes = Header + 8ll * kColumns;

  static constexpr i64 tileBytes(int columns) {
    return Front + (columns + kColumns - 1) / kColumns * Header + 8ll * columns;
  }
  LATHE_INLINE int index(int group) { return (int)((u32)group % Groups); }
  LATHE_INLINE const u8 *header(const u8 *tile, int group) {
    return tile + Front + (u32)group / Groups * kBytes;
  }
  /// The codes from column k on; those of one group are contiguous.
  LATHE_INLINE const u8 *codes(const u8 *tile, int k) {
    return header(tile, k / Group) + Header + (u32)k % kColumns * 8;
  }
};

template <int Group, bool Asymmetric = false> struct Int4 {
  static_assert(Group % 16 == 0);
  static constexpr bool kQuantized = true;
  static constexpr int kGroup = Group;

  using Blocks =
      BlockLayout<0, Group, Asymmetric ? 4 : 2, Asymmetric ? 192 : 64>;

  static constexpr i64 tileBytes(int columns) {
    return Blocks::tileBytes(columns);
  }
  LATHE_INLINE const u8 *codes(const u8 *tile, int k) {
    return Blocks::codes(tile, k);
  }
  LATHE_INLINE f32x16 scale(const u8 *tile, int group) {
    const u8 *header = Blocks::header(tile, group);
    return __builtin_convertvector(
        *(const f16x16 *)(header + Blocks::index(group) * 32), f32x16);
  }
  /// Minus the zero points of `group`, times the sum of its activations.
  LATHE_INLINE i32x16 seed(const u8 *tile, int group, int sum) {
    if constexpr (!Asymmetric)
      return (i32x16)(-8 * sum);
    const u8 *zeros = Blocks::header(tile, group) + 128;
    return __builtin_convertvector(
               *(const u8x16 *)(zeros + Blocks::index(group) * 16), i32x16) *
           -sum;
  }
  LATHE_INLINE void unpack16(const u8 *codes, u8x64 (&w)[4]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      u8x64 v = *(const u8x64 *)(codes + 64 * i);
      w[2 * i] = lowNibbles(v);
      w[2 * i + 1] = highNibbles(v);
    }
  }
  LATHE_INLINE f32x16 finish(const u8 *, f32x16 y) { return y; }
};

struct NvFp4 {
  static constexpr bool kQuantized = true;
  static constexpr int kGroup = 16;
  static constexpr int kZero = 12;

  using Blocks = BlockLayout<64, 16, 4, 64>;

  static constexpr i64 tileBytes(int columns) {
    return Blocks::tileBytes(columns);
  }
  LATHE_INLINE const u8 *codes(const u8 *tile, int k) {
    return Blocks::codes(tile, k);
  }
  /// An e4m3 byte is a half with three exponent bits fewer: moved into place
  /// it reads 2^-8 times its value; the row scale makes up for that.
  LATHE_INLINE f32x16 scale(const u8 *tile, int group) {
    const u8 *header = Blocks::header(tile, group);
    i16x16 e = __builtin_convertvector(
        *(const i8x16 *)(header + Blocks::index(group) * 16), i16x16);
    i16x16 half = (e << 7) & (short)0xbfff;
    return __builtin_convertvector(__builtin_bit_cast(f16x16, half), f32x16);
  }
  LATHE_INLINE i32x16 seed(const u8 *, int, int sum) {
    return (i32x16)(-kZero * sum);
  }
  /// Codes become 12 + 2 * e2m1.
  LATHE_INLINE u8x64 decode(u8x64 nibbles) {
    typedef signed char lut __attribute__((ext_vector_type(16)));
    const lut table = {12, 13, 14, 15, 16, 18, 20, 24,
                       12, 11, 10, 9,  8,  6,  4,  0};
#if defined(__AVX512BW__)
    typedef signed char v64 __attribute__((vector_size(64)));
    i8x64 t;
    t.lo.lo = t.lo.hi = t.hi.lo = t.hi.hi = table;
    return (u8x64)__builtin_ia32_pshufb512((v64)t, (v64)nibbles);
#else
    typedef signed char v32 __attribute__((vector_size(32)));
    i8x32 t;
    t.lo = t.hi = table;
    u8x64 r;
    r.lo = (u8x32)__builtin_ia32_pshufb256((v32)t, (v32)nibbles.lo);
    r.hi = (u8x32)__builtin_ia32_pshufb256((v32)t, (v32)nibbles.hi);
    return r;
#endif
  }
  LATHE_INLINE void unpack16(const u8 *codes, u8x64 (&w)[4]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      u8x64 v = *(const u8x64 *)(codes + 64 * i);
      w[2 * i] = decode(lowNibbles(v));
      w[2 * i + 1] = decode(highNibbles(v));
    }
  }
  LATHE_INLINE f32x16 finish(const u8 *tile, f32x16 y) {
    return y * *(const f32x16 *)tile;
  }
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_FORMATS_H
