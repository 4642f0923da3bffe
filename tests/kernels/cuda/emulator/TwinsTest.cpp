//===- TwinsTest.cpp - two blocks that reach each other's memory ----------===//

#include "tests/kernels/cuda/emulator/intrinsics.h"

#include "tests/kernels/cuda/emulator/Emulator.h"

#include "gtest/gtest.h"

#include <string>
#include <vector>

namespace {

using lathe::u32;

/// Every thread sends its block's number to the twin.
void exchange(float *found, bool waits) {
  auto *values = (u32 *)(lathe::sharedMemory() + 8);
  auto *arrived = (lathe::Barrier *)lathe::sharedMemory();
  const int thread = lathe::threadX();
  if (thread == 0)
    lathe::barrierInit(arrived, 1);
  lathe::barrierInitFence();
  if (waits)
    lathe::clusterArrive();
  lathe::syncThreads();
  if (thread == 0)
    lathe::barrierExpect(arrived, lathe::threadCount() * 4);
  if (waits)
    lathe::clusterWait();
  lathe::storeTwin(values + thread, u32(lathe::blockX()), arrived);
  lathe::barrierWaitTwin(arrived, 0);
  found[lathe::blockX() * lathe::threadCount() + thread] =
      float(values[thread]);
}

TEST(Emulator, TwinsStoreToEachOther) {
  for (emulator::Order order : emulator::kOrders) {
    std::vector<float> found(4 * 64);
    emulator::runGrid({.gridX = 4,
                       .threads = 64,
                       .sharedBytes = 8 + 64 * 4,
                       .order = order,
                       .twins = true},
                      [&] { exchange(found.data(), true); });
    for (int block = 0; block < 4; ++block)
      for (int thread = 0; thread < 64; ++thread)
        ASSERT_EQ(found[block * 64 + thread], float(block ^ 1));
  }
}

TEST(Emulator, RejectsStoresToATwinThatMayNotHaveStarted) {
  std::vector<float> found(2 * 32);
  std::string error = emulator::tryGrid(
      {.gridX = 2, .threads = 32, .sharedBytes = 8 + 32 * 4, .twins = true},
      [&] { exchange(found.data(), false); });
  EXPECT_NE(error.find("clusterArrive"), std::string::npos) << error;
}

TEST(Emulator, RejectsAnOddNumberOfTwins) {
  EXPECT_NE(emulator::tryGrid({.gridX = 3, .twins = true}, [] {}), "");
}

} // namespace
