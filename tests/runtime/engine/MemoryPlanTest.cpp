#include "runtime/engine/MemoryPlan.h"

#include <gtest/gtest.h>

namespace lathe {
namespace {

Plan smallPlan() {
  Plan plan;
  plan.weights.push_back(
      {"w", Layout::Tiles, {WeightFormat::BF16, 16, 32, 0, false}, {}});
  plan.states.push_back({"kv", StateKind::Kv, {2, 16}});
  plan.states.push_back({"conv", StateKind::Conv, {3, 16}});
  plan.kernels.push_back({"k", 100, 50});
  PlannedEntry entry{};
  entry.function = "trunk";
  entry.tokens = 1;
  entry.arenaBytes = 64;
  entry.inputs = {{0}};
  entry.outputs = {{20}};
  plan.entries.push_back(entry);
  return plan;
}

TEST(MemoryPlan, RowsAddUp) {
  MemoryPlan memory = planMemory(smallPlan(), 1000, 2);
  int64_t sum = 0;
  for (const MemoryRow &row : memory.rows)
    sum += row.bytes;
  EXPECT_EQ(sum, memory.total);
  EXPECT_EQ(memory.kvBytesPerToken, 2 * 2 * 16 * 4);
}

TEST(MemoryPlan, ScratchGrowsWithThreads) {
  Plan plan = smallPlan();
  EXPECT_EQ(planMemory(plan, 1, 3).total - planMemory(plan, 1, 2).total,
            localScratch(plan));
}

TEST(MemoryPlan, SaysWhichContextWouldFit) {
  MemoryPlan memory = planMemory(smallPlan(), 1000, 1);
  int64_t fixed = memory.total - 1000 * memory.kvBytesPerToken;
  Status status = checkFits(memory, fixed + 7 * memory.kvBytesPerToken);
  EXPECT_EQ(exitCode(status), 4);
  EXPECT_NE(messageOf(status).find("context of 7 tokens would fit"),
            std::string::npos);
  EXPECT_TRUE(checkFits(memory, memory.total).ok());
}

} // namespace
} // namespace lathe
