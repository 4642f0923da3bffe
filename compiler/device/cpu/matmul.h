//===- matmul.h - products for the many tokens of a prefill -----*- C++ -*-===//
//
// Computes Tiles row tiles for all tokens. Three loops of blocking:
//
//   tokens in blocks of kSuperBlock   float sums of Tiles x kSuperBlock stay in
//                                     L1 while all columns pass by
//   columns in steps                  the step of each tile is unpacked once
//                                     into L1
//   tokens in blocks of kTokenBlock   the micro-kernel: Tiles x kTokenBlock
//                                     accumulators in registers
//
// The packed tiles themselves stay in L2 from one super-block to the next.
// Every output sees the operations of matvec.h in the same order.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_MATMUL_H
#define LATHE_COMPILER_DEVICE_CPU_MATMUL_H

#include "compiler/device/cpu/matvec.h"

namespace lathe {

constexpr int kSuperBlock = 8 * kTokenBlock;

/// One step of Tiles quantised tiles, unpacked: operands of dotBlock for
/// groups of R tiles at a time.
template <class Format, int Step, int Tiles> struct QuantizedPanel {
  static constexpr int R = Tiles < kRegisterTiles ? Tiles : kRegisterTiles;
  static constexpr int kVectors = Step / 16 * 4 * R;

  u8x64 codes[Tiles / R][kVectors];
  f32x16 scale[Tiles];

  LATHE_MEMBER void unpack(const u8 *const (&tiles)[Tiles], int k) {
    for (int r = 0; r < Tiles; ++r) {
      const u8 *from = Format::codes(tiles[r], k);
      u8x64 *to = codes[r / R] + r % R;
      for (int i = 0; i < Step / 16; ++i) {
        u8x64 w[4];
        Format::unpack16(from + i * kCodeBytes16, w);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          to[(4 * i + j) * R] = w[j];
      }
      scale[r] = Format::scale(tiles[r], k / Format::kGroup);
    }
  }

  /// sums[t][r] += panel[r] . x[token + t] for a block of tokens.
  template <class Form>
  LATHE_MEMBER void multiply(const Form &x, const u8 *const (&tiles)[Tiles],
                             int k, int token, f32x16 (*sums)[Tiles]) const {
#pragma unroll
    for (int r = 0; r < Tiles; r += R) {
      i32x16 acc[kTokenBlock][R];
#pragma unroll
      for (int t = 0; t < kTokenBlock; ++t)
#pragma unroll
        for (int j = 0; j < R; ++j)
          acc[t][j] = (i32x16)0;
      const i8 *a = x.values(k, token);
      if constexpr (Form::kPlanes == 2) {
        dotColumns<Form>(acc, codes[r / R], a);
        a += Form::kGroup;
      }
#pragma unroll
      for (int t = 0; t < kTokenBlock; ++t)
#pragma unroll
        for (int j = 0; j < R; ++j)
          acc[t][j] = (acc[t][j] << 7) +
                      Format::seed(tiles[r + j], k / Format::kGroup,
                                   x.template sumOver<Step>(k, token + t));
      dotColumns<Form>(acc, codes[r / R], a);
#pragma unroll
      for (int t = 0; t < kTokenBlock; ++t)
#pragma unroll
        for (int j = 0; j < R; ++j)
          sums[t][r + j] =
              fma(__builtin_convertvector(acc[t][j], f32x16),
                  scale[r + j] * x.scale(k, token + t), sums[t][r + j]);
    }
  }

  template <class Form>
  LATHE_INLINE void dotColumns(i32x16 (&acc)[kTokenBlock][R], const u8x64 *w,
                               const i8 *a) {
#pragma unroll 1
    for (int i = 0; i < Step / 16; ++i)
      dotBlock<R, kTokenBlock>(acc, w + i * 4 * R, a + 16 * i,
                               Form::kTokenBytes);
  }
};

/// Up to kSteps times sixteen columns of Tiles float tiles, unpacked.
template <class Format, int Tiles> struct FloatPanel {
  static constexpr int R = Tiles < kRegisterTiles ? Tiles : kRegisterTiles;

  static constexpr int kSteps = 2;

  f32x16 columns[Tiles / R][16 * kSteps][R];
  int steps;

  LATHE_MEMBER void unpack(const u8 *const (&tiles)[Tiles], int k, int end) {
    steps = end - k < 16 * kSteps ? (end - k) / 16 : kSteps;
    for (int r = 0; r < Tiles; ++r)
      for (int s = 0; s < steps; ++s) {
        f32x16 w[16];
        Format::unpack16(tiles[r], k + 16 * s, w);
#pragma unroll
        for (int i = 0; i < 16; ++i)
          columns[r / R][16 * s + i][r % R] = w[i];
      }
  }

  template <class In>
  LATHE_MEMBER void multiply(const In &x, int k, int token,
                             f32x16 (*sums)[Tiles]) const {
#pragma unroll
    for (int r = 0; r < Tiles; r += R) {
      f32x16 acc[kTokenBlock][R];
#pragma unroll
      for (int t = 0; t < kTokenBlock; ++t)
#pragma unroll
        for (int j = 0; j < R; ++j)
          acc[t][j] = sums[t][r + j];
#pragma unroll 1
      for (int s = 0; s < steps; ++s)
        fmaColumns(acc, columns[r / R] + 16 * s, x.f32(k + 16 * s, token));
#pragma unroll
      for (int t = 0; t < kTokenBlock; ++t)
#pragma unroll
        for (int j = 0; j < R; ++j)
          sums[t][r + j] = acc[t][j];
    }
  }

  LATHE_INLINE void fmaColumns(f32x16 (&acc)[kTokenBlock][R],
                               const f32x16 (*w)[R], const float *a) {
#pragma unroll 4
    for (int i = 0; i < 16; ++i)
#pragma unroll
      for (int t = 0; t < kTokenBlock; ++t) {
        f32x16 x = splat(a[16 * t + i]);
#pragma unroll
        for (int j = 0; j < R; ++j)
          acc[t][j] = fma(w[i][j], x, acc[t][j]);
      }
  }
};

/// Tokens [begin, end) of Tiles tiles, all columns.
template <class Format, int Tiles, class In>
LATHE_INLINE void matmulBlock(const In &x, const u8 *const (&tiles)[Tiles],
                              int begin, int end, f32x16 (*sums)[Tiles]) {
  for (int t = 0; t < paddedTokens(end - begin, true); ++t)
    for (int r = 0; r < Tiles; ++r)
      sums[t][r] = splat(0.0f);
  if constexpr (Format::kQuantized) {
    const auto form = x.integers();
    constexpr int step = kIntegerStep<Format, decltype(x.integers())>;
    QuantizedPanel<Format, step, Tiles> panel;
    for (int k = 0; k < In::kColumns; k += step) {
      panel.unpack(tiles, k);
      for (int t = begin; t < end; t += kTokenBlock)
        panel.multiply(form, tiles, k, t, sums + (t - begin));
    }
  } else {
    FloatPanel<Format, Tiles> panel;
    for (int k = 0; k < In::kPadded; k += 16 * panel.kSteps) {
      panel.unpack(tiles, k, In::kPadded);
      for (int t = begin; t < end; t += kTokenBlock)
        panel.multiply(x, k, t, sums + (t - begin));
    }
  }
}

/// Calls emit(t, y) with y[r] = tiles[r] . x[t] for every token.
template <class Format, int Tiles, class In, class Emit>
LATHE_INLINE void matmulTiles(const In &x, const u8 *const (&tiles)[Tiles],
                              Emit emit) {
  f32x16 sums[kSuperBlock][Tiles];
  const int tokens = x.tokens();
  for (int begin = 0; begin < tokens; begin += kSuperBlock) {
    const int end = begin + kSuperBlock < tokens ? begin + kSuperBlock : tokens;
    matmulBlock<Format>(x, tiles, begin, end, sums);
    for (int t = begin; t < end; ++t) {
      f32x16(&y)[Tiles] = sums[t - begin];
      if constexpr (Format::kQuantized)
        for (int r = 0; r < Tiles; ++r)
          y[r] = Format::finish(tiles[r], y[r]);
      emit(t, y);
    }
  }
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_MATMUL_H
