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

/// With a step of `tokens` tokens, and an MTP layer of its own weight and
/// cache.
Plan planWithRounds(int64_t tokens) {
  using Space = PlannedOperand::Space;
  Plan plan = smallPlan();
  plan.target = "cpu";
  plan.entries[0].launches = {{0, {{Space::Weight, 0}, {Space::State, 0}}}};
  plan.weights.push_back(
      {"mtp", Layout::Tiles, {WeightFormat::BF16, 16, 32, 0, false}, {}});
  plan.states.push_back({"mtp.kv", StateKind::Kv, {1, 16}});
  plan.states[1].ring = 32;
  plan.kernels.push_back({"wide", 4000, 50});
  PlannedEntry wide = plan.entries[0];
  wide.tokens = tokens;
  wide.launches[0].kernel = 1;
  plan.entries.push_back(wide);
  PlannedEntry mtp = plan.entries[0];
  mtp.function = "mtp";
  mtp.inputs = {{0}, {20}};
  mtp.launches = {{0, {{Space::Weight, 1}, {Space::State, 1}}}};
  mtp.launches[0].operands[1].value = 2;
  plan.entries.push_back(mtp);
  return plan;
}

TEST(MemoryPlan, WhatRoundsNeedIsAllBeyondPlainDecoding) {
  Plan plain = smallPlan();
  plain.target = "cpu";
  const MemoryPlan memory = planMemory(planWithRounds(4), 1000, 2);
  EXPECT_EQ(memory.rounds.drafts, 3);
  EXPECT_EQ(memory.total - memory.rounds.mtp - memory.rounds.positions,
            planMemory(plain, 1000, 2).total);
}

TEST(MemoryPlan, TheMtpLayerIsNoPartOfADraftPosition) {
  const RoundMemory few = planMemory(planWithRounds(4), 1000, 1).rounds;
  const RoundMemory more = planMemory(planWithRounds(8), 2000, 1).rounds;
  EXPECT_GT(few.mtp, 1000 * 2 * 16 * 4); // its cache
  EXPECT_GE(more.mtp, few.mtp + 1000 * 2 * 16 * 4);
  EXPECT_GT(few.positions, 29 * 16 * 4); // rows of the ring
  EXPECT_LT(more.positions, few.positions + 4096);
}

TEST(MemoryPlan, APlanWithoutRoundsNeedsNothingForThem) {
  const MemoryPlan memory = planMemory(smallPlan(), 1000, 1);
  EXPECT_EQ(memory.rounds.drafts, 0);
  EXPECT_EQ(memory.rounds.mtp + memory.rounds.positions, 0);
  EXPECT_EQ(memory.table().find("draft"), std::string::npos);
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
