//===- WarpgroupTest.cpp - wgmma of the emulator --------------------------===//

#include "tests/kernels/cuda/emulator/intrinsics.h"

#include "compiler/device/cuda/warpgroup_sizes.h"
#include "tests/kernels/cuda/emulator/Emulator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace {

using lathe::lane;
using lathe::sharedMemory;
using lathe::threadX;
using lathe::u16;
using lathe::u32;
using lathe::emulator::runGrid;

constexpr int kTokens = 80, kSums = kTokens / 2;
constexpr lathe::emulator::Grid kWarpgroup{.threads = 128,
                                           .sharedBytes = kTokens * 128};

/// Whole numbers, so that sums are exact: A [64][64], B [64][tokens].
struct Problem {
  std::vector<float> a = std::vector<float>(64 * 64);
  std::vector<float> b = std::vector<float>(64 * kTokens);

  Problem() {
    std::mt19937 random(3);
    for (auto *values : {&a, &b})
      for (float &x : *values)
        x = float(int(random() % 9) - 4);
  }
  float sum(int row, int token, int columns) const {
    float result = 0;
    for (int k = 0; k < columns; ++k)
      result += a[row * 64 + k] * b[k * kTokens + token];
    return result;
  }
  /// B as WarpgroupShape::place has it, but in order within 16 columns.
  void placeB() const {
    for (int i = threadX(); i < 64 * kTokens; i += 128) {
      int k = i / kTokens, t = i % kTokens, piece = k / 8 ^ (t & 7);
      ((u16 *)(sharedMemory() + t * 128 + piece * 16))[k % 8] =
          lathe::floatToHalf(b[i]);
    }
    lathe::syncThreads();
  }
  void operand(int k16, u32 (&fragment)[4]) const {
    int row = threadX() / 32 * 16 + lane() / 4, q = lane() % 4 * 2;
    for (int r = 0; r < 4; ++r) {
      const float *at =
          &a[(row + 8 * (r & 1)) * 64 + k16 * 16 + 8 * (r >> 1) + q];
      fragment[r] = lathe::packHalf(at[0], at[1]);
    }
  }
  /// The row and token of sum `i` of this lane.
  static int rowOf(int i) {
    return threadX() / 32 * 16 + lane() / 4 + 8 * (i >> 1 & 1);
  }
  static int tokenOf(int i) { return i / 4 * 8 + lane() % 4 * 2 + (i & 1); }
};

/// Counts the sums that differ from those over `columns`.
int wrongSums(const Problem &problem, const float (&d)[kSums], int columns) {
  int wrong = 0;
  for (int i = 0; i < kSums; ++i)
    wrong +=
        d[i] != problem.sum(Problem::rowOf(i), Problem::tokenOf(i), columns);
  return wrong;
}

TEST(Warpgroup, MultipliesSwizzledRows) {
  Problem problem;
  int wrong = 0;
  runGrid(kWarpgroup, [&] {
    problem.placeB();
    float d[kSums] = {};
    u32 a[4][4];
    for (int k16 = 0; k16 < 4; ++k16) {
      problem.operand(k16, a[k16]);
      lathe::wgmma(d, a[k16], lathe::wgmmaOperand(sharedMemory()) + 2 * k16);
    }
    lathe::wgmmaCommit();
    lathe::wgmmaWait<0>();
    wrong += wrongSums(problem, d, 64);
  });
  EXPECT_EQ(wrong, 0);
}

TEST(Warpgroup, SumsArePoisonUntilWaitedFor) {
  Problem problem;
  int numbers = 0;
  runGrid(kWarpgroup, [&] {
    problem.placeB();
    float d[kSums] = {};
    u32 a[4];
    problem.operand(0, a);
    lathe::wgmma(d, a, lathe::wgmmaOperand(sharedMemory()));
    lathe::wgmmaCommit();
    lathe::wgmmaWait<1>();
    for (float x : d)
      numbers += !std::isnan(x);
    lathe::wgmmaWait<0>();
  });
  EXPECT_EQ(numbers, 0);
}

TEST(Warpgroup, WaitsForTheOlderGroups) {
  Problem problem;
  int wrong = 0;
  runGrid(kWarpgroup, [&] {
    problem.placeB();
    float d[2][kSums] = {};
    u32 a[4];
    problem.operand(0, a);
    for (auto &sums : d) {
      lathe::wgmma(sums, a, lathe::wgmmaOperand(sharedMemory()));
      lathe::wgmmaCommit();
    }
    lathe::wgmmaWait<1>();
    wrong += wrongSums(problem, d[0], 16);
    lathe::wgmmaWait<0>();
  });
  EXPECT_EQ(wrong, 0);
}

TEST(Warpgroup, OperandsAreReadLate) {
  Problem problem;
  int right = 0;
  runGrid(kWarpgroup, [&] {
    problem.placeB();
    float d[kSums] = {};
    u32 a[4];
    problem.operand(0, a);
    lathe::wgmma(d, a, lathe::wgmmaOperand(sharedMemory()));
    lathe::wgmmaCommit();
    for (u32 &pair : a)
      pair = 0x7c007c00; // infinite
    lathe::wgmmaWait<0>();
    right += kSums - wrongSums(problem, d, 16);
  });
  EXPECT_EQ(right, 0);
}

} // namespace
