//===- intrinsics_math.cuh - products and conversions ----------*- CUDA -*-===//
//
// The part of intrinsics.cuh that computes: tensor cores and numbers.
//
// Half-precision pairs are held in a u32, the lower half in the lower bits.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_INTRINSICS_MATH_CUH
#define LATHE_COMPILER_DEVICE_CUDA_INTRINSICS_MATH_CUH

#include "compiler/device/cuda/intrinsics.cuh"

namespace lathe {

//===----------------------------------------------------------------------===//
// Tensor cores. t = lane, g = t / 4, q = t % 4.
//===----------------------------------------------------------------------===//

/// d += A B for f16 A [16 x 16] and B [16 x 8], sums in f32.
///   a[r]: row g + 8 (r & 1), columns 2q, 2q + 1 of half r >> 1
///   b[r]: rows 2q, 2q + 1 of half r, column g
///   d[i]: row g + 8 (i >> 1), column 2q + (i & 1)
LATHE_DEVICE void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// d = A B + c.
LATHE_DEVICE void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1,
                      float c0, float c1, float c2, float c3) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c0),
        "f"(c1), "f"(c2), "f"(c3));
}
/// The same for bf16.
LATHE_DEVICE void mmaBf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// d += A B for tf32 A [16 x 8] and B [8 x 8]: floats, whose lower 13 bits do
/// not count.
///   a[r]: row g + 8 (r & 1), column q + 4 (r >> 1)
///   b[r]: row q + 4 r, column g
///   d[i]: as above
LATHE_DEVICE void mmaTf32(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// Four 8x8 matrices of 16-bit elements: lane 8i + j gives the address of row j
/// (16 bytes) of matrix i; r[i] gets elements 2q, 2q + 1 of row g of matrix i.
LATHE_DEVICE void ldmatrix(u32 (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(sharedAddress(row))
               : "memory");
}
/// The same with each matrix transposed: rows 2q, 2q + 1 of column g.
LATHE_DEVICE void ldmatrixTransposed(u32 (&r)[4], const void *row) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(sharedAddress(row))
      : "memory");
}

//===----------------------------------------------------------------------===//
// Numbers. Conversions round to nearest, ties to even.
//===----------------------------------------------------------------------===//

LATHE_DEVICE u32 floatBits(float f) { return __float_as_uint(f); }
LATHE_DEVICE float bitsFloat(u32 u) { return __uint_as_float(u); }

LATHE_DEVICE u32 packHalf(float lower, float upper) {
  u32 r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(upper), "f"(lower));
  return r;
}
LATHE_DEVICE u32 packBf16(float lower, float upper) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(upper), "f"(lower));
  return r;
}
LATHE_DEVICE float halfToFloat(u16 h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}
LATHE_DEVICE u16 floatToHalf(float f) {
  u16 h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}
/// Two e4m3 bytes to two halves; exact.
LATHE_DEVICE u32 e4m3ToHalf(u16 pair) {
  u32 r;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(r) : "h"(pair));
  return r;
}
#if __CUDA_ARCH__ >= 1000 && (defined(__CUDA_ARCH_FEAT_SM120_ALL) ||           \
                              defined(__CUDA_ARCH_FAMILY_SPECIFIC__))
#define LATHE_HAS_E2M1 1
/// The two e2m1 codes of byte `byte` of `word` to two halves; exact.
LATHE_DEVICE u32 e2m1ToHalf(u32 word, int byte) {
  u32 r;
  asm("{\n.reg .b8 c0, c1, c2, c3;\n"
      "mov.b32 {c0, c1, c2, c3}, %1;\n"
      "cvt.rn.f16x2.e2m1x2 %0, c0;\n}"
      : "=r"(r)
      : "r"(word >> (8 * byte)));
  return r;
}
#else
#define LATHE_HAS_E2M1 0
#endif
/// One half of a pair, twice.
LATHE_DEVICE u32 lowerTwice(u32 pair) {
  return __byte_perm(pair, pair, 0x1010);
}
LATHE_DEVICE u32 upperTwice(u32 pair) {
  return __byte_perm(pair, pair, 0x3232);
}
/// word & mask | bits, in one instruction even where both are constants.
LATHE_DEVICE u32 maskOr(u32 word, u32 mask, u32 bits) {
  u32 r;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;"
      : "=r"(r)
      : "r"(word), "r"(mask), "r"(bits));
  return r;
}
LATHE_DEVICE u32 halfAdd(u32 a, u32 b) {
  u32 r;
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
LATHE_DEVICE u32 halfMul(u32 a, u32 b) {
  u32 r;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
LATHE_DEVICE u32 halfFma(u32 a, u32 b, u32 c) {
  u32 r;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}
LATHE_DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
/// a + b, never contracted with a product that a or b is.
LATHE_DEVICE float add(float a, float b) { return __fadd_rn(a, b); }
LATHE_DEVICE float rsqrt(float x) { return rsqrtf(x); }
/// 1 / x within an ulp; 0 of an infinity.
LATHE_DEVICE float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// 2^x within 2 ulp; 0 far below.
LATHE_DEVICE float exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// e^x within 2 ulp and a bit; for softmax, sigmoid and SiLU.
LATHE_DEVICE float exp(float x) { return expf(x); }
LATHE_DEVICE float log1p(float x) { return log1pf(x); }
LATHE_DEVICE float maximum(float a, float b) { return fmaxf(a, b); }
LATHE_DEVICE float minimum(float a, float b) { return fminf(a, b); }
LATHE_DEVICE double logDouble(double x) { return ::log(x); }
/// 0 to 64.
LATHE_DEVICE int leadingZeros(u64 x) { return __clzll((i64)x); }

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_INTRINSICS_MATH_CUH
