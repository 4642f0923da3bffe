//===- TensorCoresTest.cpp - mma and ldmatrix of the emulator -------------===//

#include "tests/kernels/cuda/emulator/intrinsics.h"

#include "compiler/device/cuda/prelude.cuh"
#include "tests/kernels/cuda/emulator/Emulator.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

using emulator::runGrid;
using emulator::tryGrid;
using lathe::lane;
using lathe::sharedMemory;
using lathe::u16;
using lathe::u32;

namespace {

using Mma = void (*)(float (&)[4], const u32 (&)[4], u32, u32);

/// What a register holds of kCount values that are `stride` apart.
using Pack = u32 (*)(const float *values, int stride);

/// Compares with a triple loop; `round` is what becomes of a value.
template <int kCount>
void testMma(Mma multiply, Pack pack, float (*round)(float)) {
  constexpr int kDepth = 8 * kCount;
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(-3, 3);
  auto fill = [&](auto &matrix) {
    for (auto &row : matrix)
      for (float &x : row)
        x = uniform(random);
  };
  float a[16][kDepth], b[kDepth][8], d[16][8], expected[16][8];
  fill(a), fill(b), fill(d);
  memcpy(expected, d, sizeof d);
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j)
      for (int k = 0; k < kDepth; ++k)
        expected[i][j] += round(a[i][k]) * round(b[k][j]);

  runGrid({}, [&] {
    constexpr int kHalf = kDepth / 2;
    int g = lane() / 4, q = lane() % 4, first = kCount * q;
    u32 fragment[4] = {pack(&a[g][first], 1), pack(&a[g + 8][first], 1),
                       pack(&a[g][first + kHalf], 1),
                       pack(&a[g + 8][first + kHalf], 1)};
    float sums[4] = {d[g][2 * q], d[g][2 * q + 1], d[g + 8][2 * q],
                     d[g + 8][2 * q + 1]};
    multiply(sums, fragment, pack(&b[first][g], 8),
             pack(&b[first + kHalf][g], 8));
    d[g][2 * q] = sums[0], d[g][2 * q + 1] = sums[1];
    d[g + 8][2 * q] = sums[2], d[g + 8][2 * q + 1] = sums[3];
  });
  EXPECT_EQ(memcmp(d, expected, sizeof d), 0);
}

TEST(TensorCores, MultipliesF16) {
  auto pack = [](const float *x, int stride) {
    return lathe::packHalf(x[0], x[stride]);
  };
  testMma<2>(lathe::mma, pack,
             [](float x) { return lathe::halfToFloat(lathe::floatToHalf(x)); });
}

TEST(TensorCores, MultipliesBf16) {
  auto pack = [](const float *x, int stride) {
    return lathe::packBf16(x[0], x[stride]);
  };
  testMma<2>(lathe::mmaBf16, pack,
             [](float x) { return lathe::bf16ToFloat(lathe::packBf16(x, 0)); });
}

TEST(TensorCores, MultipliesTf32) {
  auto pack = [](const float *x, int) { return lathe::floatBits(*x); };
  testMma<1>(lathe::mmaTf32, pack, [](float x) {
    return lathe::bitsFloat(lathe::floatBits(x) >> 13 << 13);
  });
}

TEST(TensorCores, LoadsMatrices) {
  runGrid({.sharedBytes = 32 * 24 * 2}, [] {
    // Rows of 24 elements, of which a matrix takes 8; element = its address.
    u16 *elements = reinterpret_cast<u16 *>(sharedMemory());
    for (int i = 0; i < 24; ++i)
      elements[24 * lane() + i] = 24 * lane() + i;
    lathe::syncWarp();
    u32 straight[4], transposed[4];
    lathe::ldmatrix(straight, elements + 24 * lane() + 8);
    lathe::ldmatrixTransposed(transposed, elements + 24 * lane() + 8);
    u32 g = lane() / 4, q = 2 * (lane() % 4);
    for (u32 i = 0; i < 4; ++i) {
      u32 at = 24 * (8 * i + g) + 8 + q;
      EXPECT_EQ(straight[i], at | (at + 1) << 16);
      u32 down = 24 * (8 * i + q) + 8 + g;
      EXPECT_EQ(transposed[i], down | (down + 24) << 16);
    }
  });
  auto misaligned = [] {
    u32 r[4];
    lathe::ldmatrix(r, sharedMemory() + 2 * lane());
  };
  EXPECT_NE(tryGrid({.sharedBytes = 96}, misaligned).find("no aligned row"),
            std::string::npos);
}

} // namespace
