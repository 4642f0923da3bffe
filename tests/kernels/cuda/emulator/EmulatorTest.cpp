//===- EmulatorTest.cpp - the CUDA emulator itself ------------------------===//
//
// That correct kernels give the right result in every order, and that the
// mistakes that the emulator is there to find are found.
//
//===----------------------------------------------------------------------===//

#include "tests/kernels/cuda/emulator/intrinsics.h"

#include "compiler/device/cuda/prelude.cuh"
#include "tests/kernels/cuda/emulator/Emulator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <vector>

using emulator::Grid;
using emulator::kOrders;
using emulator::Order;
using emulator::runGrid;
using emulator::tryGrid;
using lathe::Barrier;
using lathe::lane;
using lathe::sharedMemory;
using lathe::syncThreads;
using lathe::threadX;
using lathe::u16;
using lathe::u32;

namespace {

float *sharedFloats() { return reinterpret_cast<float *>(sharedMemory()); }

/// Expects that a launch fails and that its message contains `expected`.
void expectFailure(const Grid &grid, const std::function<void()> &kernel,
                   const char *expected) {
  std::string error = tryGrid(grid, kernel);
  EXPECT_NE(error.find(expected), std::string::npos) << error;
}

//===----------------------------------------------------------------------===//
// Threads
//===----------------------------------------------------------------------===//

TEST(Emulator, ReducesInEveryOrder) {
  for (Order order : kOrders) {
    std::vector<float> sums(6);
    runGrid({3, 2, 224, 7 * sizeof(float), order}, [&] {
      float sum = lathe::warpSum(float(threadX()));
      const int warp = lathe::warp(); // a collective
      if (lane() == 0)
        sharedFloats()[warp] = sum;
      syncThreads();
      if (threadX() != 0)
        return;
      int block = lathe::blockY() * lathe::gridX() + lathe::blockX();
      sums[block] = std::accumulate(sharedFloats(), sharedFloats() + 7,
                                    float(1000000 * block));
    });
    for (int i = 0; i < 6; ++i)
      EXPECT_EQ(sums[i], 1000000 * i + 223 * 224 / 2);
  }
}

TEST(Emulator, Shuffles) {
  runGrid({.threads = 48}, [] {
    int t = lane(), last = threadX() < 32 ? 31 : 15;
    EXPECT_EQ(lathe::shuffle(100.5 + t, last), 100.5 + last);
    EXPECT_EQ(lathe::shuffleXor(t, 5), t ^ 5);
    EXPECT_EQ(lathe::shuffleUp(t, 3), t < 3 ? t : t - 3);
    EXPECT_EQ(lathe::ballot(t % 4 == 1), 0x22222222u & ~0u >> (31 - last));
  });
  expectFailure(
      {.threads = 48}, [] { lathe::warpSum(1.0f); },
      "a lane that is not there");
}

TEST(Emulator, NamedBarriersSeparateWarps) {
  for (Order order : kOrders)
    runGrid({.threads = 128, .sharedBytes = 512, .order = order}, [] {
      int pair = threadX() / 64;
      for (int round = 0; round < 3; ++round) {
        sharedFloats()[threadX()] = round;
        lathe::syncNamed(1 + pair, 64);
        EXPECT_EQ(sharedFloats()[threadX() ^ 63], round);
        lathe::syncNamed(1 + pair, 64);
      }
    });
}

TEST(Emulator, SomeOrderShowsThatABarrierIsMissing) {
  int wrong = 0;
  for (Order order : kOrders)
    runGrid({.threads = 64, .sharedBytes = 256, .order = order}, [&] {
      sharedFloats()[threadX()] = 1;
      if (threadX() == 40 && std::isnan(sharedFloats()[7]))
        ++wrong;
    });
  EXPECT_GT(wrong, 0);
}

TEST(Emulator, ReportsWhatIsStuck) {
  auto kernel = [] {
    if (threadX() < 40)
      syncThreads();
    else if (threadX() < 50)
      lathe::syncNamed(2, 64);
    else if (threadX() < 60)
      lathe::syncWarp();
  };
  expectFailure({.threads = 64}, kernel,
                "deadlock, no thread can run\n"
                "  0-39: waits in syncThreads\n"
                "  40-49: waits in syncNamed 2\n"
                "  50-59: waits for its warp in syncWarp\n"
                "  60-63: has returned");
  auto diverged = [] {
    if (lane() < 3)
      lathe::ballot(true);
    else
      lathe::shuffle(1, 0);
  };
  expectFailure({}, diverged, "thread 3: comes to shuffle, not where its warp");
}

TEST(Emulator, BlocksWaitForEachOther) {
  for (Order order : kOrders) {
    constexpr int kBlocks = 3, kRounds = 4;
    u32 arrivals = 0;
    int values[kBlocks] = {};
    auto kernel = [&] {
      const int own = lathe::blockX(), next = (own + 1) % kBlocks;
      int found = 0;
      for (int round = 0; round < kRounds; ++round) {
        if (threadX() == 0) {
          values[own] = found + 1;
          lathe::signalCount(&arrivals, 1);
          lathe::waitForCount(&arrivals, (2 * round + 1) * kBlocks);
        }
        syncThreads();
        found = values[next];
        EXPECT_EQ(found, round + 1);
        syncThreads();
        if (threadX() == 0) {
          lathe::signalCount(&arrivals, 1);
          lathe::waitForCount(&arrivals, (2 * round + 2) * kBlocks);
        }
      }
    };
    runGrid({.gridX = kBlocks, .threads = 64, .order = order, .together = true},
            kernel);
  }
}

TEST(Emulator, ReportsACountThatNeverComes) {
  u32 arrivals = 0;
  auto kernel = [&] {
    lathe::signalCount(&arrivals, 1);
    if (threadX() == 0)
      lathe::waitForCount(&arrivals, 65);
  };
  expectFailure({.gridX = 2, .together = true}, kernel,
                "deadlock, no thread can run\n"
                "  0: waits for a count of 65, not 64\n"
                "  1-31: has returned");
  arrivals = 0;
  expectFailure({.gridX = 3}, kernel, "block (0, 0): thread 31: deadlock");
}

TEST(Emulator, GuardsSharedMemory) {
  Grid grid{.sharedBytes = 100};
  expectFailure(grid, [] { sharedMemory()[100] = 0; }, "behind its shared");
  expectFailure(grid, [] { sharedMemory()[-1] = 0; }, "before its shared");
}

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

TEST(Emulator, AsyncCopiesArriveWithTheirGroup) {
  alignas(16) float source[2][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}};
  runGrid({.threads = 1, .sharedBytes = 48}, [&] {
    float *to = sharedFloats();
    lathe::copyAsync16(to, source[0]);
    lathe::copyCommit();
    lathe::copyAsync16(to + 4, source[1]);
    lathe::copyAsync16(to + 8, source[1], false);
    lathe::copyCommit();
    EXPECT_TRUE(std::isnan(to[0])); // what a missing copyWait would read
    lathe::copyWait<1>();
    EXPECT_EQ(to[3], 4);
    EXPECT_TRUE(std::isnan(to[4]));
    lathe::copyWait<0>();
    EXPECT_EQ(to[4], 5);
    EXPECT_EQ(to[8], 0);
    lathe::copyAsync16(to, source[1]);
    EXPECT_TRUE(std::isnan(to[0])); // nor is the old value there any more
  });
  auto misaligned = [&] { lathe::copyAsync16(sharedFloats(), source[0] + 1); };
  expectFailure({.sharedBytes = 16}, misaligned, "misaligned source");
}

/// One warp fills two stages, three others read them.
struct Ring {
  static constexpr int kStages = 2, kFloats = 64, kRounds = 7;
  static constexpr int kBytes = kStages * (kFloats * 4 + 16);
  const float *source;
  float *sums; ///< kRounds for each of 96 readers
  bool announced = true;

  static Barrier *barriers() {
    return reinterpret_cast<Barrier *>(sharedFloats() + kStages * kFloats);
  }
  void produce() const {
    for (int i = 0; i < kRounds; ++i) {
      Barrier *full = barriers() + i % kStages, *empty = full + kStages;
      lathe::barrierWait(empty, (i / kStages & 1) ^ 1);
      if (announced)
        lathe::barrierExpect(full, kFloats * 4);
      else
        lathe::barrierArrive(full);
      lathe::copyBulk(sharedFloats() + i % kStages * kFloats,
                      source + i * kFloats, kFloats * 4, full);
    }
  }
  void consume(int reader) const {
    for (int i = 0; i < kRounds; ++i) {
      Barrier *full = barriers() + i % kStages, *empty = full + kStages;
      lathe::barrierWait(full, i / kStages & 1);
      const float *stage = sharedFloats() + i % kStages * kFloats;
      sums[kRounds * reader + i] =
          std::accumulate(stage, stage + kFloats, float(reader));
      lathe::syncWarp();
      if (lane() == 0)
        lathe::barrierArrive(empty);
    }
  }
  void operator()() const {
    if (threadX() == 0)
      for (int i = 0; i < 2 * kStages; ++i)
        lathe::barrierInit(barriers() + i, i < kStages ? 1 : 3);
    lathe::barrierInitFence();
    syncThreads();
    if (threadX() >= 32)
      consume(threadX() - 32);
    else if (threadX() == 0)
      produce();
  }
};

TEST(Emulator, RingOfBulkCopies) {
  alignas(16) float source[Ring::kRounds * Ring::kFloats];
  std::iota(std::begin(source), std::end(source), 0.0f);
  std::vector<float> sums(96 * Ring::kRounds);
  Ring ring{source, sums.data()};
  for (Order order : kOrders) {
    sums.assign(sums.size(), -1);
    runGrid({.threads = 128, .sharedBytes = Ring::kBytes, .order = order},
            ring);
    for (int reader = 0; reader < 96; ++reader)
      for (int i = 0; i < Ring::kRounds; ++i)
        EXPECT_EQ(sums[Ring::kRounds * reader + i],
                  reader + 64 * (64 * i) + 63 * 64 / 2);
  }
  // A barrier that does not count the bytes lets the readers through too early.
  ring.announced = false;
  tryGrid({.threads = 128, .sharedBytes = Ring::kBytes}, ring);
  EXPECT_TRUE(std::isnan(sums[0]));
}

TEST(Emulator, ReportsMisuseOfBarriers) {
  Grid grid{.threads = 1, .sharedBytes = 32};
  auto barrier = [] { return reinterpret_cast<Barrier *>(sharedMemory()); };
  expectFailure(
      grid, [&] { lathe::barrierArrive(barrier()); }, "not a barrier");
  auto starved = [&] {
    lathe::barrierInit(barrier(), 2);
    lathe::barrierExpect(barrier(), 48);
    lathe::barrierWait(barrier(), 0);
  };
  expectFailure(grid, starved, "which lacks 1 arrivals and 48 bytes");
  auto crowded = [&] {
    lathe::barrierInit(barrier(), 1);
    lathe::barrierExpect(barrier(), 16);
    lathe::barrierArrive(barrier());
  };
  expectFailure(grid, crowded, "more arrivals");
  auto unfinished = [&] {
    alignas(16) static const float source[4] = {};
    lathe::barrierInit(barrier(), 1);
    lathe::barrierExpect(barrier(), 16);
    lathe::copyBulk(sharedMemory() + 16, source, 16, barrier());
  };
  expectFailure(grid, unfinished, "ended with a copyBulk under way");
}

//===----------------------------------------------------------------------===//
// Numbers
//===----------------------------------------------------------------------===//

u16 bitsOf(_Float16 h) { return __builtin_bit_cast(u16, h); }
_Float16 halfOf(u16 bits) { return __builtin_bit_cast(_Float16, bits); }

TEST(Emulator, ConvertsHalves) {
  for (u32 bits = 0; bits < 0x10000; ++bits) {
    float value = lathe::halfToFloat(bits);
    if (std::isnan(value)) {
      EXPECT_EQ(lathe::floatToHalf(value), 0x7fff);
      continue;
    }
    EXPECT_EQ(value, float(halfOf(bits)));
    EXPECT_EQ(lathe::floatToHalf(value), bits);
    // The tie to the next half, and what lies on both sides of it.
    u32 tie = lathe::floatBits((value + lathe::halfToFloat(bits + 1)) / 2);
    for (u32 near : {tie - 1, tie, tie + 1}) {
      float x = lathe::bitsFloat(near);
      if (!std::isnan(x)) {
        EXPECT_EQ(lathe::floatToHalf(x), bitsOf(_Float16(x)));
      }
    }
  }
}

TEST(Emulator, HalfArithmeticRoundsOnce) {
  std::mt19937 random(3);
  for (int i = 0; i < 300000; ++i) {
    u32 a = random(), b = random(), c = random();
    auto same = [](u16 got, double exact) {
      return std::isnan(exact) ? got == 0x7fff : got == bitsOf(_Float16(exact));
    };
    double x = halfOf(a), y = halfOf(b), z = halfOf(c);
    ASSERT_TRUE(same(lathe::halfAdd(a, b), x + y)) << x << " + " << y;
    ASSERT_TRUE(same(lathe::halfMul(a, b), x * y)) << x << " * " << y;
    ASSERT_TRUE(same(lathe::halfFma(a, b, c), x * y + z));
    ASSERT_TRUE(
        same(lathe::halfFma(a, b, c) >> 16,
             double(halfOf(a >> 16)) * halfOf(b >> 16) + halfOf(c >> 16)));
  }
}

TEST(Emulator, ConvertsSmallFormats) {
  for (int byte = 0; byte < 256; ++byte) {
    int exponent = byte >> 3 & 15, mantissa = byte & 7;
    float value = exponent ? std::ldexp(8 + mantissa, exponent - 10)
                           : std::ldexp(mantissa, -9);
    float got = lathe::upperHalf(lathe::e4m3ToHalf(byte << 8));
    if ((byte & 127) == 127)
      EXPECT_TRUE(std::isnan(got));
    else
      EXPECT_EQ(got, byte & 128 ? -value : value);
  }
  const float small[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  for (u32 byte = 0; byte < 256; ++byte) {
    u32 pair = lathe::e2m1ToHalf(byte << 16, 2);
    EXPECT_EQ(lathe::lowerHalf(pair), small[byte & 7] * (byte & 8 ? -1 : 1));
    EXPECT_EQ(lathe::upperHalf(pair),
              small[byte >> 4 & 7] * (byte & 128 ? -1 : 1));
  }
  EXPECT_EQ(lathe::packBf16(1 + 0x1p-8f, 1 + 0x3p-8f), 0x3f823f80u);
  EXPECT_EQ(lathe::packBf16(-INFINITY, NAN), 0x7fffff80u);
}

} // namespace
