#include "runtime/engine/ThreadTeam.h"

#include <gtest/gtest.h>

namespace lathe {
namespace {

TEST(ThreadTeam, EveryThreadRunsOnce) {
  for (int size : {1, 2, 5}) {
    ThreadTeam team(size);
    std::vector<int> runs(static_cast<size_t>(size));
    for (int i = 0; i < 100; ++i)
      team.run([&](int thread) { ++runs[size_t(thread)]; });
    for (int count : runs)
      EXPECT_EQ(count, 100);
  }
}

TEST(ThreadTeam, BarrierSeparatesPhases) {
  ThreadTeam team(3);
  std::vector<int> values(3);
  bool ordered[3] = {true, true, true};
  team.run([&](int thread) {
    for (int round = 1; round <= 200; ++round) {
      values[size_t(thread)] = round;
      team.barrier();
      for (int value : values)
        ordered[thread] &= value == round;
      team.barrier();
    }
  });
  EXPECT_TRUE(ordered[0] && ordered[1] && ordered[2]);
}

} // namespace
} // namespace lathe
