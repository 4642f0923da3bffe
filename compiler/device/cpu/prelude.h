//===- prelude.h - vector types and math for CPU kernels --------*- C++ -*-===//
//
// The header-free base of every CPU kernel: vector types, loads and stores,
// elementwise math. It is embedded at build time, prepended to the text that
// the in-process compiler sees, and also compiled ahead of time by the tests.
//
// Values are f32x16 on every instruction set; with AVX2 the compiler splits
// them into two halves. The elementwise functions take scalars and vectors, so
// that one printed expression serves both.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_PRELUDE_H
#define LATHE_COMPILER_DEVICE_CPU_PRELUDE_H

#ifndef LATHE_RUNTIME_BASE_KERNELABI_H
#include "runtime/base/KernelAbi.h"
#endif

namespace lathe {

using i8 = signed char;
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;

typedef float f32x16 __attribute__((ext_vector_type(16)));
typedef int i32x16 __attribute__((ext_vector_type(16)));
typedef unsigned u32x16 __attribute__((ext_vector_type(16)));
typedef unsigned short u16x16 __attribute__((ext_vector_type(16)));
typedef unsigned char u8x16 __attribute__((ext_vector_type(16)));
typedef _Float16 f16x16 __attribute__((ext_vector_type(16)));
typedef double f64x8 __attribute__((ext_vector_type(8)));
typedef float f32x16_u __attribute__((ext_vector_type(16), aligned(4)));

#define LATHE_INLINE static inline __attribute__((always_inline))

LATHE_INLINE constexpr int roundUp(int n, int to) {
  return (n + to - 1) / to * to;
}

/// Row stride, in floats, of an activation that is `width` floats wide.
LATHE_INLINE constexpr int strideOf(int width) {
  return roundUp(width, LATHE_LANES);
}

LATHE_INLINE f32x16 load(const float *p) { return *(const f32x16_u *)p; }
LATHE_INLINE void store(float *p, f32x16 v) { *(f32x16_u *)p = v; }
LATHE_INLINE f32x16 splat(float x) { return (f32x16)x; }

LATHE_INLINE float sum(f32x16 v) {
  // Fixed order: halves, quarters, ... so that every build adds alike.
  typedef float f32x8 __attribute__((ext_vector_type(8)));
  typedef float f32x4 __attribute__((ext_vector_type(4)));
  f32x8 a = v.lo + v.hi;
  f32x4 b = a.lo + a.hi;
  return (b[0] + b[2]) + (b[1] + b[3]);
}

LATHE_INLINE float maxOf(f32x16 v) { return __builtin_reduce_max(v); }

LATHE_INLINE float fma(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
LATHE_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
  return __builtin_elementwise_fma(a, b, c);
}

/// e^x to 2 ulp (Cephes polynomial on [-ln2/2, ln2/2]); clamps to the normal
/// range, so exp(-inf) is about 1e-38 and exp never overflows.
LATHE_INLINE f32x16 exp(f32x16 x) {
  x = __builtin_elementwise_min(__builtin_elementwise_max(x, splat(-87.0f)),
                                splat(88.0f));
  f32x16 n = __builtin_elementwise_roundeven(x * 1.44269504088896341f);
  f32x16 r = fma(n, splat(-0.693359375f), x);
  r = fma(n, splat(2.12194440e-4f), r);
  f32x16 p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  p = fma(p, r * r, r) + 1.0f;
  i32x16 e = __builtin_convertvector(n, i32x16) << 23;
  return __builtin_bit_cast(f32x16, __builtin_bit_cast(i32x16, p) + e);
}
LATHE_INLINE float exp(float x) { return exp(splat(x))[0]; }

/// Natural logarithm of a positive normal x (Cephes), to 2 ulp.
LATHE_INLINE float log(float x) {
  u32 u = __builtin_bit_cast(u32, x);
  int e = (int)(u >> 23) - 126;
  float m = __builtin_bit_cast(float, (u & 0x7fffff) | 0x3f000000);
  if (m < 0.707106781186547524f) {
    m += m;
    --e;
  }
  m -= 1.0f;
  float z = m * m;
  float y = 7.0376836292e-2f;
  y = fma(y, m, -1.1514610310e-1f);
  y = fma(y, m, 1.1676998740e-1f);
  y = fma(y, m, -1.2420140846e-1f);
  y = fma(y, m, 1.4249322787e-1f);
  y = fma(y, m, -1.6668057665e-1f);
  y = fma(y, m, 2.0000714765e-1f);
  y = fma(y, m, -2.4999993993e-1f);
  y = fma(y, m, 3.3333331174e-1f);
  y = y * m * z + (float)e * -2.12194440e-4f - 0.5f * z;
  return m + y + (float)e * 0.693359375f;
}

template <class V> LATHE_INLINE V sigmoid(V x) {
  return 1.0f / (1.0f + exp(-x));
}
template <class V> LATHE_INLINE V silu(V x) { return x / (1.0f + exp(-x)); }

/// log(1 + e^x), stable on both sides.
LATHE_INLINE float softplus(float x) {
  float a = x < 0 ? x : -x; // -|x|
  float t = exp(a);
  // log1p(t) with the rounding of 1 + t corrected.
  float u = 1.0f + t;
  float l = u == 1.0f ? t : log(u) * t / (u - 1.0f);
  return (x > 0 ? x : 0.0f) + l;
}

LATHE_INLINE float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }

/// Waits until every thread of the team has arrived.
LATHE_INLINE void barrier(const LatheContext *c) {
  if (c->threads == 1)
    return;
  LatheBarrier *b = c->barrier;
  int generation = __atomic_load_n(&b->generation, __ATOMIC_RELAXED);
  if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_ACQ_REL) == c->threads) {
    __atomic_store_n(&b->arrived, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&b->generation, generation + 1, __ATOMIC_RELEASE);
    return;
  }
  for (int spins = 0;
       __atomic_load_n(&b->generation, __ATOMIC_ACQUIRE) == generation; ++spins)
    // A thread that is late may be waiting for this core.
    if (spins < 500 || !c->yield)
      __builtin_ia32_pause();
    else
      c->yield();
}

/// A half-open range of work items.
struct Range {
  int begin, end;
};

/// This thread's contiguous share of `count` items.
LATHE_INLINE Range shareOf(const LatheContext *c, int count) {
  return {(int)((i64)count * c->thread / c->threads),
          (int)((i64)count * (c->thread + 1) / c->threads)};
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_PRELUDE_H
