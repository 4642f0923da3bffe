//===- PromptLookupTest.cpp - drafts out of the text so far ---------------===//

#include "runtime/engine/PromptLookup.h"

#include "gtest/gtest.h"

namespace lathe {
namespace {

using Ids = std::vector<int32_t>;

Ids proposal(const Ids &text, int64_t count) {
  PromptLookup lookup(64);
  lookup.append(text);
  auto draft = lookup.propose(count);
  return {draft.begin(), draft.end()};
}

TEST(PromptLookup, ContinuesWhatFollowedTheLastThreeTokens) {
  EXPECT_EQ(proposal({1, 2, 3, 4, 5, 9, 1, 2, 3}, 2), (Ids{4, 5}));
}

TEST(PromptLookup, TakesTheLatestPlace) {
  EXPECT_EQ(proposal({1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3}, 1), (Ids{5}));
}

TEST(PromptLookup, ThreeTokensGoBeforeTwo) {
  EXPECT_EQ(proposal({1, 2, 3, 4, 7, 2, 3, 5, 1, 2, 3}, 1), (Ids{4}));
}

TEST(PromptLookup, TwoTokensAreEnough) {
  EXPECT_EQ(proposal({2, 3, 4, 8, 2, 3}, 1), (Ids{4}));
}

TEST(PromptLookup, RepeatsWhatRunsPastTheEnd) {
  EXPECT_EQ(proposal({1, 2, 3, 1, 2, 3}, 7), (Ids{1, 2, 3, 1, 2, 3, 1}));
}

TEST(PromptLookup, HasNothingForNewText) {
  EXPECT_TRUE(proposal({1, 2, 3, 4, 5}, 3).empty());
}

TEST(PromptLookup, HasNothingForOneToken) {
  EXPECT_TRUE(proposal({1}, 3).empty());
}

TEST(PromptLookup, ForgetsWhenCleared) {
  PromptLookup lookup(64);
  lookup.append(Ids{1, 2, 3, 1, 2});
  lookup.clear();
  lookup.append(Ids{1, 2});
  EXPECT_TRUE(lookup.propose(1).empty());
}

} // namespace
} // namespace lathe
