#include "runtime/artifact/Plan.h"

#include <gtest/gtest.h>

namespace lathe {
namespace {

Plan threeEntries() {
  Plan plan;
  for (auto [tokens, prefill] : {std::pair{1, false}, {4, false}, {64, true}}) {
    PlannedEntry entry{};
    entry.function = "trunk";
    entry.tokens = tokens;
    entry.prefill = prefill;
    plan.entries.push_back(entry);
  }
  return plan;
}

TEST(Plan, PrefersTheDecodeEntryOfExactlyThisCount) {
  Plan plan = threeEntries();
  EXPECT_EQ(plan.find("trunk", 1), &plan.entries[0]);
  EXPECT_EQ(plan.find("trunk", 4), &plan.entries[1]);
  EXPECT_EQ(plan.find("trunk", 3), &plan.entries[2]);
  EXPECT_EQ(plan.find("trunk", 64), &plan.entries[2]);
}

TEST(Plan, FindsNothingThatDoesNotFit) {
  Plan plan = threeEntries();
  EXPECT_EQ(plan.find("trunk", 65), nullptr);
  EXPECT_EQ(plan.find("head", 1), nullptr);
}

TEST(Plan, MaxTokensIsTheLargestEntry) {
  Plan plan = threeEntries();
  EXPECT_EQ(plan.maxTokens("trunk"), 64);
  EXPECT_EQ(plan.maxTokens("head"), 0);
}

TEST(Plan, APromptPrefersItsOwnEntry) {
  Plan plan = threeEntries();
  EXPECT_EQ(plan.find("trunk", 4, /*preferPrefill=*/true), &plan.entries[2]);
  plan.entries.pop_back();
  EXPECT_EQ(plan.find("trunk", 4, /*preferPrefill=*/true), &plan.entries[1]);
}

TEST(Plan, AStateThatReplaysHasRoomForItsRing) {
  EXPECT_EQ((PlannedState{"a", StateKind::Conv, {3, 16}, 4, 32}.byteSize(10)),
            32 * 16 * 4);
  // Two gates per head, each padded to 16 floats.
  EXPECT_EQ(
      (PlannedState{"b", StateKind::Recurrent, {6, 8, 8}, 4, 32}.byteSize(10)),
      (6 * 8 * 8 + 32 * 2 * 16) * 4);
}

TEST(Plan, OnlyKvGrowsWithTheContext) {
  EXPECT_EQ((PlannedState{"a", StateKind::Kv, {2, 16}}.byteSize(10)),
            2 * 10 * 2 * 16 * 4);
  EXPECT_EQ((PlannedState{"b", StateKind::Conv, {3, 16}}.byteSize(10)),
            3 * 16 * 4);
}

} // namespace
} // namespace lathe
