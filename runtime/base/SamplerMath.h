//===- SamplerMath.h - sampling arithmetic, the same everywhere -*- C++ -*-===//
//
// What runtime/engine/Sampler.cpp and compiler/device/cuda/sample.cuh compute
// with. The file is header-free: NVRTC compiles it too.
//
// A token's fate hangs on comparisons of sums, so the CPU and the GPU have to
// agree to the last bit, which their math libraries do not. Here every
// operation is a single IEEE addition, multiplication or division, rounded to
// nearest by itself: no fused multiply-add, no library function, no order that
// a compiler may choose. Flushing denormals to zero (-ftz, fast math) breaks
// the agreement, and so does GCC's default of -ffp-contract=fast on a target
// with FMA; clang needs no option.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_BASE_SAMPLERMATH_H
#define LATHE_RUNTIME_BASE_SAMPLERMATH_H

namespace lathe::exact {

#ifdef __CUDACC__
#define LATHE_EXACT static __device__ __forceinline__
LATHE_EXACT float add(float a, float b) { return __fadd_rn(a, b); }
LATHE_EXACT float mul(float a, float b) { return __fmul_rn(a, b); }
LATHE_EXACT float div(float a, float b) { return __fdiv_rn(a, b); }
LATHE_EXACT double add(double a, double b) { return __dadd_rn(a, b); }
LATHE_EXACT double mul(double a, double b) { return __dmul_rn(a, b); }
LATHE_EXACT double div(double a, double b) { return __ddiv_rn(a, b); }
LATHE_EXACT float asFloat(int bits) { return __int_as_float(bits); }
LATHE_EXACT double asDouble(long long bits) {
  return __longlong_as_double(bits);
}
LATHE_EXACT long long asBits(double x) { return __double_as_longlong(x); }
#else
#define LATHE_EXACT static inline
#ifdef __clang__
#define LATHE_NO_CONTRACTION _Pragma("clang fp contract(off)")
#else
#define LATHE_NO_CONTRACTION
#endif
template <typename T> LATHE_EXACT T add(T a, T b) {
  LATHE_NO_CONTRACTION
  return a + b;
}
template <typename T> LATHE_EXACT T mul(T a, T b) {
  LATHE_NO_CONTRACTION
  return a * b;
}
template <typename T> LATHE_EXACT T div(T a, T b) {
  LATHE_NO_CONTRACTION
  return a / b;
}
#undef LATHE_NO_CONTRACTION
LATHE_EXACT float asFloat(int bits) { return __builtin_bit_cast(float, bits); }
LATHE_EXACT double asDouble(long long bits) {
  return __builtin_bit_cast(double, bits);
}
LATHE_EXACT long long asBits(double x) {
  return __builtin_bit_cast(long long, x);
}
#endif

/// A finaliser of full avalanche: each input bit flips each output bit with
/// probability 1/2.
LATHE_EXACT unsigned long long mixBits(unsigned long long x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}
LATHE_EXACT unsigned long long positionKey(unsigned long long seed,
                                           long long position) {
  return mixBits(mixBits(seed) + (unsigned long long)position);
}
/// The random bits of a token. Their number of leading ones bounds the noise.
LATHE_EXACT unsigned long long noiseBits(unsigned long long key, int token) {
  return mixBits(key + (unsigned long long)token);
}

/// The natural logarithm of a positive normal number, within 1 ulp.
///
/// x = 2^k m with m in [sqrt(1/2), sqrt(2)); with f = m - 1 and s = f / (2 +
/// f), log(m) = 2 artanh(s) = 2s + s R, where R is the rest of artanh's series.
/// Since 2s = f - s f, the small terms can be added up before the large ones.
LATHE_EXACT double log(double x) {
  constexpr long long kRootHalf = 0x3FE6A09E667F3BCD;
  constexpr double kLog2High = 0x1.62e42fee00000p-1; // k times it is exact
  constexpr double kLog2Low = 0x1.a39ef35793c76p-33;
  const long long exponent = (asBits(x) - kRootHalf) >> 52;
  const double m = asDouble((long long)((unsigned long long)asBits(x) -
                                        ((unsigned long long)exponent << 52)));
  const double k = (double)exponent;
  const double f = add(m, -1.0);
  const double s = div(f, add(2.0, f));
  const double z = mul(s, s);
  double r = 2.0 / 21;
  r = add(mul(r, z), 2.0 / 19);
  r = add(mul(r, z), 2.0 / 17);
  r = add(mul(r, z), 2.0 / 15);
  r = add(mul(r, z), 2.0 / 13);
  r = add(mul(r, z), 2.0 / 11);
  r = add(mul(r, z), 2.0 / 9);
  r = add(mul(r, z), 2.0 / 7);
  r = add(mul(r, z), 2.0 / 5);
  r = add(mul(r, z), 2.0 / 3);
  r = mul(r, z);
  const double half = mul(0.5, mul(f, f)); // s f = half - s half
  const double small = add(mul(s, add(half, r)), mul(k, kLog2Low));
  return add(mul(k, kLog2High), add(f, -add(half, -small)));
}

/// Gumbel noise of random bits: -log(-log(u)), where u is uniform in (0, 1),
/// made of the upper 53 bits. From -3.7 to 37.5.
LATHE_EXACT double gumbel(unsigned long long bits) {
  constexpr double kLeast = 0x1p-54; // u may round to 1
  double u = mul(add((double)(bits >> 11), 0.5), 0x1p-53);
  double inner = -log(u);
  return -log(inner > kLeast ? inner : kLeast);
}

/// e^x for x <= 0, relative error below 1e-5 (1e-6 above -10), 0 below -87.
LATHE_EXACT float expNegative(float x) {
  float scaled = mul(x > -87.0f ? x : -87.0f, 1.44269504f);
  int whole = (int)add(scaled, -0.5f); // to nearest, as scaled <= 0
  float f = add(scaled, -(float)whole);
  float power = 0.000154035304f;
  power = add(mul(power, f), 0.00133335581f);
  power = add(mul(power, f), 0.00961812911f);
  power = add(mul(power, f), 0.0555041087f);
  power = add(mul(power, f), 0.240226507f);
  power = add(mul(power, f), 0.693147181f);
  power = add(mul(power, f), 1.0f);
  float result = mul(power, asFloat((whole + 127) << 23));
  return x < -87.0f ? 0.0f : result;
}

/// The probability of a logit, in units of 2^-40 of the highest one's; the part
/// before the point counts.
LATHE_EXACT float mass(float logit, float highest, float temperature) {
  return mul(expNegative(div(add(logit, -highest), temperature)), 0x1p40f);
}

/// The logarithm of the same ratio, in double precision. At most 0.
LATHE_EXACT double score(float logit, float highest, float temperature) {
  return div(add((double)logit, -(double)highest), (double)temperature);
}

} // namespace lathe::exact

#undef LATHE_EXACT

#endif // LATHE_RUNTIME_BASE_SAMPLERMATH_H
