//===- TensorCores.h - mma and ldmatrix on a CPU ----------------*- C++ -*-===//
//
// The rest of intrinsics.h.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_KERNELS_CUDA_EMULATOR_TENSORCORES_H
#define LATHE_TESTS_KERNELS_CUDA_EMULATOR_TENSORCORES_H

#include "tests/kernels/cuda/emulator/intrinsics.h"

namespace lathe {

// The elements that a register of A or B holds.
struct EmulatorF16 {
  static constexpr int kCount = 2;
  static float element(u32 pair, int i) { return halfToFloat(pair >> 16 * i); }
};
struct EmulatorBf16 {
  static constexpr int kCount = 2;
  static float element(u32 pair, int i) {
    return bitsFloat(pair >> 16 * i << 16);
  }
};
struct EmulatorTf32 {
  static constexpr int kCount = 1;
  static float element(u32 bits, int) { return bitsFloat(bits & ~0u << 13); }
};

template <class Format> struct EmulatorMma {
  static constexpr int kCount = Format::kCount, kDepth = 8 * kCount;
  float (&d)[4];
  const u32 (&a)[4];
  u32 b[2];

  /// Exact products, added to d in float in ascending order. The hardware adds
  /// a block of products at once and truncates: the last bits differ.
  static void execute(void *const *arguments) {
    float a[16][kDepth], b[kDepth][8], d[16][8];
    for (int t = 0; t < 32; ++t) {
      auto *mine = (EmulatorMma *)arguments[t];
      if (!mine)
        return latheEmulator->fail("mma in a partial warp");
      int g = t / 4, q = t % 4;
      for (int r = 0; r < 4; ++r) {
        d[g + 8 * (r >> 1)][2 * q + (r & 1)] = mine->d[r];
        float *row = a[g + 8 * (r & 1)] + kDepth / 2 * (r >> 1) + kCount * q;
        for (int i = 0; i < kCount; ++i)
          row[i] = Format::element(mine->a[r], i);
      }
      for (int r = 0; r < 2; ++r)
        for (int i = 0; i < kCount; ++i)
          b[kDepth / 2 * r + kCount * q + i][g] =
              Format::element(mine->b[r], i);
    }
    for (int row = 0; row < 16; ++row)
      for (int k = 0; k < kDepth; ++k)
        for (int column = 0; column < 8; ++column)
          d[row][column] += a[row][k] * b[k][column];
    for (int t = 0; t < 32; ++t)
      for (int r = 0; r < 4; ++r)
        ((EmulatorMma *)arguments[t])->d[r] =
            d[t / 4 + 8 * (r >> 1)][2 * (t % 4) + (r & 1)];
  }
};
LATHE_DEVICE void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  EmulatorMma<EmulatorF16> arguments{d, a, {b0, b1}};
  latheEmulator->collective("mma", &arguments, arguments.execute);
}
LATHE_DEVICE void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1,
                      float c0, float c1, float c2, float c3) {
  d[0] = c0, d[1] = c1, d[2] = c2, d[3] = c3;
  mma(d, a, b0, b1);
}
LATHE_DEVICE void mmaBf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  EmulatorMma<EmulatorBf16> arguments{d, a, {b0, b1}};
  latheEmulator->collective("mmaBf16", &arguments, arguments.execute);
}
LATHE_DEVICE void mmaTf32(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  EmulatorMma<EmulatorTf32> arguments{d, a, {b0, b1}};
  latheEmulator->collective("mmaTf32", &arguments, arguments.execute);
}

template <bool kTransposed> struct EmulatorLdmatrix {
  u32 (&r)[4];
  const void *row;

  /// Element `at` of row, or of column, `line` of matrix i.
  static u32 element(void *const *arguments, int i, int line, int at) {
    int row = kTransposed ? at : line, column = kTransposed ? line : at;
    auto *holder = (EmulatorLdmatrix *)arguments[8 * i + row];
    return ((const u16 *)holder->row)[column];
  }
  static void execute(void *const *arguments) {
    for (int t = 0; t < 32; ++t) {
      auto *mine = (EmulatorLdmatrix *)arguments[t];
      if (!mine)
        return latheEmulator->fail("ldmatrix in a partial warp");
      u64 offset = (const char *)mine->row - latheEmulator->shared;
      if ((u64)mine->row % 16 || offset + 16 > latheEmulator->sharedBytes)
        return latheEmulator->fail("ldmatrix: no aligned row of shared");
    }
    for (int t = 0; t < 32; ++t) {
      int g = t / 4, q = 2 * (t % 4);
      for (int i = 0; i < 4; ++i) {
        u32 lower = element(arguments, i, g, q);
        u32 upper = element(arguments, i, g, q + 1);
        ((EmulatorLdmatrix *)arguments[t])->r[i] = lower | upper << 16;
      }
    }
  }
};
LATHE_DEVICE void ldmatrix(u32 (&r)[4], const void *row) {
  EmulatorLdmatrix<false> arguments{r, row};
  latheEmulator->collective("ldmatrix", &arguments, arguments.execute);
}
LATHE_DEVICE void ldmatrixTransposed(u32 (&r)[4], const void *row) {
  EmulatorLdmatrix<true> arguments{r, row};
  latheEmulator->collective("ldmatrixTransposed", &arguments,
                            arguments.execute);
}

} // namespace lathe

#endif // LATHE_TESTS_KERNELS_CUDA_EMULATOR_TENSORCORES_H
