//===- matvec.h - weight-streaming products for few tokens ------*- C++ -*-===//
//
// y[t][16 rows] = tile . x[t] for the few tokens of a decode step: every byte
// of the tile is read once and meets all tokens in registers. Sums run over
// columns in order, in exact integers within a step of one weight group and
// one activation group, in float across steps:
//
//   y = fma(float(sum of the step), weight scale * activation scale, y)
//
// matmul.h does the same operations in the same order, so a result depends
// neither on the number of tokens nor on which kernel computed it.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_MATVEC_H
#define LATHE_COMPILER_DEVICE_CPU_MATVEC_H

#include "compiler/device/cpu/activations.h"
#include "compiler/device/cpu/formats.h"

namespace lathe {

constexpr int greatestCommonDivisor(int a, int b) {
  return b == 0 ? a : greatestCommonDivisor(b, a % b);
}

/// Columns over which the sums of a quantised product stay integers.
template <class Format, class Form>
constexpr int kIntegerStep =
    greatestCommonDivisor(Format::kGroup, Form::kGroup);

/// One step of a quantised tile for tokens [Begin, Begin + Count): the integer
/// sums of columns [k, k + Step), zero points subtracted.
template <class Format, int Step, int Begin, int Count, class Form>
LATHE_INLINE void matvecStep(const Form &x, const u8 *tile, int k,
                             i32x16 (&sums)[Count]) {
  i32x16 hi[Count], lo[Count];
#pragma unroll
  for (int t = 0; t < Count; ++t) {
    hi[t] = (i32x16)0;
    lo[t] = Format::seed(tile, k / Format::kGroup,
                         x.template sumOver<Step>(k, Begin + t));
  }
  const u8 *codes = Format::codes(tile, k);
  const i8 *values = x.values(k, Begin);
#pragma unroll 2
  for (int i = 0; i < Step / 16; ++i) {
    u8x64 w[4];
    Format::unpack16(codes + i * kCodeBytes16, w);
#pragma unroll
    for (int t = 0; t < Count; ++t) {
      const i8 *a = values + t * Form::kTokenBytes + 16 * i;
      if constexpr (Form::kPlanes == 2) {
        hi[t] = dot16(hi[t], w, a);
        lo[t] = dot16(lo[t], w, a + Form::kGroup);
      } else {
        lo[t] = dot16(lo[t], w, a);
      }
    }
  }
#pragma unroll
  for (int t = 0; t < Count; ++t)
    sums[t] = Form::kPlanes == 2 ? (hi[t] << 7) + lo[t] : lo[t];
}

/// Tokens [Begin, T) of a quantised tile, as many per pass as registers hold.
template <class Format, int Columns, int T, int Begin = 0, class Form>
LATHE_INLINE void matvecQuantized(const Form &x, const u8 *tile,
                                  f32x16 (&y)[T]) {
  constexpr int step = kIntegerStep<Format, Form>;
  constexpr int count = T - Begin < kMatvecTokens ? T - Begin : kMatvecTokens;
  f32x16 acc[count];
#pragma unroll
  for (int t = 0; t < count; ++t)
    acc[t] = splat(0.0f);
#pragma unroll 1
  for (int k = 0; k < Columns; k += step) {
    i32x16 sums[count];
    matvecStep<Format, step, Begin, count>(x, tile, k, sums);
    f32x16 scale = Format::scale(tile, k / Format::kGroup);
#pragma unroll
    for (int t = 0; t < count; ++t)
      acc[t] = fma(__builtin_convertvector(sums[t], f32x16),
                   scale * x.scale(k, Begin + t), acc[t]);
  }
#pragma unroll
  for (int t = 0; t < count; ++t)
    y[Begin + t] = Format::finish(tile, acc[t]);
  if constexpr (Begin + count < T)
    matvecQuantized<Format, Columns, T, Begin + count>(x, tile, y);
}

/// A tile of float weights: one chain of FMAs per row and token.
template <class Format, int T, int Begin = 0, class In>
LATHE_INLINE void matvecFloat(const In &x, const u8 *tile, f32x16 (&y)[T]) {
  constexpr int count = T - Begin < kMatvecTokens ? T - Begin : kMatvecTokens;
  f32x16 acc[count];
#pragma unroll
  for (int t = 0; t < count; ++t)
    acc[t] = splat(0.0f);
#pragma unroll 1
  for (int k = 0; k < In::kPadded; k += 16) {
    f32x16 w[16];
    Format::unpack16(tile, k, w);
    const float *a = x.f32(k, Begin);
#pragma unroll
    for (int i = 0; i < 16; ++i)
#pragma unroll
      for (int t = 0; t < count; ++t)
        acc[t] = fma(w[i], splat(a[16 * t + i]), acc[t]);
  }
#pragma unroll
  for (int t = 0; t < count; ++t)
    y[Begin + t] = acc[t];
  if constexpr (Begin + count < T)
    matvecFloat<Format, T, Begin + count>(x, tile, y);
}

/// y[t] = tile . x[t] for every token of a decode input.
template <class Format, class In>
LATHE_INLINE void matvecTile(const In &x, const u8 *tile,
                             f32x16 (&y)[In::kMaxTokens]) {
  if constexpr (Format::kQuantized)
    matvecQuantized<Format, In::kColumns>(x.integers(), tile, y);
  else
    matvecFloat<Format>(x, tile, y);
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_MATVEC_H
