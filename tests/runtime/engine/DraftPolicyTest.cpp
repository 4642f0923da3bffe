//===- DraftPolicyTest.cpp - what the policy plays in made-up worlds ------===//

#include "runtime/engine/DraftPolicy.h"

#include "gtest/gtest.h"

#include <functional>

namespace lathe {
namespace {

/// A world: the share of drafts that hold, and the seconds of a round.
struct World {
  double share;
  std::function<double(DraftChoice)> cost;
};

struct Played {
  double seconds = 0;
  int64_t tokens = 0, rounds = 0, drafts = 0;
};

Played play(const World &world, int64_t tokens, bool mtp, bool lookup,
            DraftPolicy &policy) {
  Played sum;
  uint32_t random = 1;
  while (sum.tokens < tokens) {
    const DraftChoice choice = policy.choose(mtp, lookup);
    int64_t accepted = 0;
    while (accepted < choice.drafts) {
      random = random * 1664525 + 1013904223;
      if (double(random >> 8) * 0x1p-24 >= world.share)
        break;
      ++accepted;
    }
    const double seconds = world.cost(choice);
    policy.record(choice, accepted, seconds);
    sum.seconds += seconds;
    sum.tokens += accepted + 1;
    sum.drafts += choice.drafts;
    ++sum.rounds;
  }
  return sum;
}

Played play(const World &world, int64_t tokens, bool mtp = true,
            bool lookup = false) {
  DraftPolicy policy({1, 3, 7});
  return play(world, tokens, mtp, lookup, policy);
}

std::function<double(DraftChoice)> perDraft(double cost) {
  return
      [cost](DraftChoice choice) { return 1 + cost * double(choice.drafts); };
}

TEST(DraftPolicy, DraftsMuchWhereDraftsAreGoodAndCheap) {
  Played p = play({0.95, perDraft(0.05)}, 2000);
  EXPECT_GT(double(p.drafts) / double(p.rounds), 6);
}

TEST(DraftPolicy, LeavesItWhereDraftsNeverHold) {
  // Plain decoding would take 256 seconds.
  EXPECT_LT(play({0.0, perDraft(0.5)}, 256).seconds, 256 * 1.03);
}

TEST(DraftPolicy, LeavesItWhereDraftsCostMoreThanTheyBring) {
  EXPECT_LT(play({0.5, perDraft(1.0)}, 2000).seconds, 2000 * 1.03);
}

TEST(DraftPolicy, FindsTheBestCountInBetween) {
  // Yields 1.6, 2.2 and 2.5 tokens at 1.15, 1.45 and 2.05 seconds: three.
  Played p = play({0.6, perDraft(0.15)}, 4000);
  const double best = (1 + 0.15 * 3) / (1 + 0.6 + 0.36 + 0.216);
  EXPECT_LT(p.seconds / double(p.tokens), best * 1.06);
}

TEST(DraftPolicy, ComesBackWhenTheTextBecomesEasy) {
  DraftPolicy policy({1, 3, 7});
  play({0.0, perDraft(0.2)}, 500, true, false, policy);
  Played easy = play({1.0, perDraft(0.2)}, 2000, true, false, policy);
  EXPECT_GT(double(easy.tokens) / double(easy.rounds), 4);
}

TEST(DraftPolicy, PrefersTheSourceThatCostsLess) {
  DraftPolicy policy({1, 3, 7});
  World world{1.0, [](DraftChoice choice) {
                const bool mtp = choice.source == DraftSource::Mtp;
                return 1 + (mtp ? 0.5 : 0.1) * double(choice.drafts);
              }};
  for (int i = 0; i < 60; ++i) {
    play(world, 8, true, true, policy);
    policy.observe({DraftSource::Lookup, 7}, 7);
  }
  policy.record({}, 0, 1);
  EXPECT_EQ(policy.choose(true, true).source, DraftSource::Lookup);
}

TEST(DraftPolicy, DraftsThatWereOnlyObservedCount) {
  // Too dear for what is usual, not for drafts that always hold.
  DraftPolicy policy({1, 3, 7});
  World world{0.0, perDraft(0.6)};
  play(world, 200, false, true, policy);
  EXPECT_EQ(policy.choose(false, true).drafts, 0);
  for (int i = 0; i < 50; ++i)
    policy.observe({DraftSource::Lookup, 7}, 7);
  world.share = 1;
  EXPECT_LT(play(world, 400, false, true, policy).seconds, 400 * 0.85);
}

TEST(DraftPolicy, WhatIsTriedInVainIsAShareOfTheTime) {
  for (double cost : {0.1, 0.3, 0.6, 1.0, 1.5})
    for (double share : {0.0, 0.3, 0.6}) {
      DraftPolicy policy({1, 3, 7});
      const Played p = play({share, perDraft(cost)}, 500, true, true, policy);
      EXPECT_LT(p.seconds, 500 * 1.03) << cost << ", " << share;
    }
}

TEST(DraftPolicy, ExtraTimeIsADebt) {
  DraftPolicy policy({1});
  play({0.9, perDraft(0.1)}, 100, true, false, policy);
  ASSERT_EQ(policy.choose(true, false).drafts, 1);
  policy.record({DraftSource::Mtp, 1}, 1, 1.1, /*extra=*/20);
  policy.record({DraftSource::Mtp, 1}, 1, 1.1, /*extra=*/20);
  policy.record({DraftSource::Mtp, 1}, 1, 1.1, /*extra=*/20);
  EXPECT_EQ(policy.choose(true, false).drafts, 0);
  EXPECT_EQ(policy.choose(false, true).drafts, 1) << "another source's debt";
}

TEST(DraftPolicy, TheFirstRoundOfAKindIsNoMeasure) {
  DraftPolicy policy({1, 3, 7});
  for (int i = 0; i < 5; ++i)
    policy.record({}, 0, 1);
  policy.record({DraftSource::Mtp, 1}, 1, 30);
  EXPECT_EQ(policy.choose(true, false).drafts, 1);
}

TEST(DraftPolicy, ACostMeasuredOnceIsMeasuredAgain) {
  DraftPolicy policy({1});
  for (int i = 0; i < 5; ++i)
    policy.record({}, 0, 1);
  for (int i = 0; i < 2; ++i)
    policy.record({DraftSource::Mtp, 1}, 1, 30); // a busy machine
  Played p = play({0.9, perDraft(0.1)}, 20000, true, false, policy);
  EXPECT_LT(p.seconds / double(p.tokens), 0.7);
}

TEST(DraftPolicy, NoticesThatPlainRoundsBecameCheaper) {
  DraftPolicy policy({1, 3, 7});
  World world{0.9, [](DraftChoice choice) {
                return choice.drafts == 0 ? 3 : 1 + double(choice.drafts);
              }};
  play(world, 60, true, false, policy);
  world.cost = perDraft(1.0);
  play(world, 400, true, false, policy);
  EXPECT_EQ(policy.choose(true, false).drafts, 0);
}

TEST(DraftPolicy, OneSlowRoundChangesNothing) {
  DraftPolicy policy({1, 3, 7});
  play({0.95, perDraft(0.05)}, 500, true, false, policy);
  const DraftChoice before = policy.choose(true, false);
  policy.record(before, before.drafts, 1000);
  EXPECT_EQ(policy.choose(true, false).drafts, before.drafts);
}

TEST(DraftPolicy, StaysWithinTheRoomThatIsLeft) {
  DraftPolicy policy({1, 3, 7});
  play({1.0, perDraft(0.01)}, 500, true, false, policy);
  EXPECT_EQ(policy.choose(true, false, 2).drafts, 1);
  EXPECT_EQ(policy.choose(true, false, 0).drafts, 0);
}

} // namespace
} // namespace lathe
