//===- CudaRoundTest.cpp - rounds of speculation on a fake GPU ------------===//
//
// Which tokens meet which positions, and what a round costs the host. The fake
// model chooses by position alone, so every draft holds unless a test forces
// something else.
//
//===----------------------------------------------------------------------===//

#include "tests/runtime/engine/FakeModel.h"

#include <algorithm>

namespace lathe {
namespace {

using cuda::Counters;

constexpr int64_t kDrafts = 3, kStep = kDrafts + 1;

PlannedEntry mtp(int64_t tokens, bool prefill) {
  using Space = PlannedOperand::Space;
  return {"mtp",
          tokens,
          prefill,
          tokens * 1000,
          {{0}, {kTestHidden}},
          {{kTestHidden}},
          {{0, {{Space::Input, 0}, {Space::Weight, 0}, {Space::Arena, 0}}},
           {1, {{Space::Input, 1}, {Space::State, 3}, {Space::Output, 0}}}}};
}

class CudaRoundTest : public CudaModelTest {
protected:
  void SetUp() override {
    CudaModelTest::SetUp();
    plan.states[2].ring = LATHE_REPLAY_RING; // the layer can replay
    PlannedEntry head = plan.entries[3];
    head.tokens = kStep;
    plan.entries.push_back(head);
    for (int64_t tokens : {int64_t(1), kStep})
      plan.entries.push_back(mtp(tokens, false));
    plan.entries.push_back(mtp(kTestPrefill, true));
  }

  /// An engine that has read a prompt; the token behind it is the last of it.
  std::unique_ptr<CudaEngine> ready() {
    auto engine = create();
    EXPECT_TRUE(engine->startMtp().ok());
    std::vector<int32_t> prompt(10, 5);
    EXPECT_TRUE(engine->prompt(prompt).ok());
    tokens.clear();
    return engine;
  }
  /// What was fed since the last call.
  std::vector<SeenToken> seen() { return std::exchange(tokens, {}); }
};

TEST_F(CudaRoundTest, ARoundIsOneGraphAndOneWait) {
  auto engine = ready();
  Round round = *engine->draftAndVerify(choiceAfter(9), kDrafts);
  round = *engine->draftAndVerify(round.chosen().back(), kDrafts);
  for (int i = 0; i < 3; ++i) {
    context->resetCounters();
    round = *engine->draftAndVerify(round.chosen().back(), kDrafts);
    const Counters counters = context->counters();
    EXPECT_EQ(counters.graphLaunches, 1u);
    EXPECT_EQ(counters.launches, 0u);
    EXPECT_EQ(counters.synchronizations, 1u);
    EXPECT_EQ(counters.hostToDeviceCopies, 0u);
    EXPECT_EQ(counters.allocations + counters.graphInstantiations, 0u);
  }
}

TEST_F(CudaRoundTest, TheLayerSeesWhatWasChosenAndThenItsDrafts) {
  auto engine = ready();
  Round round = *engine->draftAndVerify(choiceAfter(9), kDrafts);
  EXPECT_EQ(engine->position(), 14);
  seen();
  round = *engine->draftAndVerify(round.chosen().back(), kDrafts);
  auto c = choiceAfter;
  // Four slots with the tokens chosen behind them; two more drafts; the step.
  const std::vector<SeenToken> expected = {
      {c(10), 10}, {c(11), 11}, {c(12), 12}, {c(13), 13}, {c(14), 14},
      {c(15), 15}, {c(13), 14}, {c(14), 15}, {c(15), 16}, {c(16), 17}};
  EXPECT_EQ(seen(), expected);
  EXPECT_EQ(round.accepted, kDrafts);
  EXPECT_EQ(round.chosen().back(), c(17));
}

TEST_F(CudaRoundTest, RejectedDraftsAreOverwritten) {
  auto engine = ready();
  engine->forceAcceptance({1, 0, 0});
  Round round = *engine->draftAndVerify(choiceAfter(9), kDrafts);
  round = *engine->draftAndVerify(round.chosen().back(), kDrafts);
  EXPECT_EQ(round.accepted, 1);
  EXPECT_EQ(engine->position(), 14);
  seen();
  round = *engine->draftAndVerify(round.chosen().back(), kDrafts);
  const std::vector<SeenToken> all = seen();
  // Slots 12 and 13 are true; what lies behind them no longer counts.
  EXPECT_EQ(all[0], (SeenToken{choiceAfter(12), 12}));
  EXPECT_EQ(all[1], (SeenToken{choiceAfter(13), 13}));
  EXPECT_EQ(all[6], (SeenToken{choiceAfter(13), 14})) << "the step";
}

TEST_F(CudaRoundTest, APlainStepBetweenRoundsIsNotLost) {
  auto engine = ready();
  Round round = *engine->draftAndVerify(choiceAfter(9), kDrafts);
  round = *engine->draftAndVerify(round.chosen().back(), kDrafts);
  ASSERT_EQ(engine->position(), 18);
  EXPECT_EQ(*engine->step(choiceAfter(17)), choiceAfter(18));
  seen();
  round = *engine->draftAndVerify(choiceAfter(18), kDrafts);
  const std::vector<SeenToken> all = seen();
  for (int i = 0; i < 5; ++i) // rows of the round and of the step
    EXPECT_EQ(all[size_t(i)], (SeenToken{choiceAfter(14 + i), 14 + i}));
  EXPECT_EQ(engine->position(), 23);
}

TEST_F(CudaRoundTest, TokensTakenBackAreDraftedAnew) {
  auto engine = ready();
  Round round = *engine->draftAndVerify(choiceAfter(9), kDrafts);
  round = *engine->draftAndVerify(round.chosen().back(), kDrafts);
  engine->takeBack(2);
  EXPECT_EQ(engine->position(), 16);
  seen();
  round = *engine->draftAndVerify(7, kDrafts);
  const std::vector<SeenToken> all = seen();
  EXPECT_EQ(all[0], (SeenToken{choiceAfter(14), 14}));
  EXPECT_EQ(all[1], (SeenToken{7, 15}));
  EXPECT_EQ(all[6], (SeenToken{7, 16}));
}

TEST_F(CudaRoundTest, ARoundIsDraftsThenVerificationThenAcceptance) {
  using Part = CudaEngine::RoundPart;
  auto engine = ready();
  const auto calls = *engine->roundCalls(kDrafts);
  EXPECT_TRUE(std::ranges::is_sorted(calls, {}, &CudaEngine::RoundCall::part));
  // The layer thrice, of two launches; a head and a choice behind each; a row.
  EXPECT_EQ(
      std::ranges::count(calls, Part::Drafts, &CudaEngine::RoundCall::part),
      3 * 4 + 1);
  EXPECT_EQ(calls.back().part, Part::Accept);
}

TEST_F(CudaRoundTest, ThePartsOfARoundAreAllOfIt) {
  using Part = CudaEngine::RoundPart;
  auto engine = ready();
  int launches = 0;
  for (Part part : {Part::Drafts, Part::Verify, Part::Accept})
    launches += engine->timeRound(kDrafts, part, 1)->launches;
  EXPECT_EQ(engine->timeRound(kDrafts, Part::All, 1)->launches, launches);
  EXPECT_EQ(engine->timeRound(kDrafts, Part::All, 1, 0)->launches, 0);
  EXPECT_EQ(engine->timeRound(kDrafts, Part::All, 1, 1)->launches, 1);
}

TEST_F(CudaRoundTest, WithALimitTheLayerBeginsAnewBehindAGap) {
  auto engine = ready();
  engine->limitMtp(kMaxStepTokens);
  for (int i = 9; i < 29; ++i)
    EXPECT_EQ(*engine->step(choiceAfter(i)), choiceAfter(i + 1));
  ASSERT_EQ(engine->position(), 30);
  seen();
  EXPECT_TRUE(engine->feedMtp().ok());
  std::vector<SeenToken> all = seen();
  ASSERT_EQ(all.size(), size_t(kMaxStepTokens));
  for (int i = 0; i < kMaxStepTokens; ++i) // positions 21 to 28
    EXPECT_EQ(all[size_t(i)], (SeenToken{choiceAfter(21 + i), i}));
  Round round = *engine->draftAndVerify(choiceAfter(29), kDrafts);
  all = seen();
  EXPECT_EQ(all[0], (SeenToken{choiceAfter(29), 8})) << "the layer";
  EXPECT_EQ(all[6], (SeenToken{choiceAfter(29), 30})) << "the step";
  round = *engine->draftAndVerify(round.chosen().back(), kDrafts);
  all = seen();
  EXPECT_EQ(all[0], (SeenToken{choiceAfter(30), 9}));
  EXPECT_EQ(engine->position(), 38);
}

TEST_F(CudaRoundTest, RowsThatDoNotFitAreForgottenWithALimit) {
  auto engine = ready();
  engine->limitMtp(kMaxStepTokens);
  for (int i = 9; i < 49; ++i)
    EXPECT_EQ(*engine->step(choiceAfter(i)), choiceAfter(i + 1));
  for (const SeenToken &token : seen())
    EXPECT_GE(token.position, 10) << "a slot of the layer";
  EXPECT_TRUE(engine->draftAndVerify(choiceAfter(49), kDrafts).ok());
  EXPECT_LT(seen()[0].position, 10);
}

TEST_F(CudaRoundTest, WhatTheSamplerRefusesIsAnError) {
  auto engine = ready();
  Round round = *engine->draftAndVerify(choiceAfter(9), kDrafts);
  sampleStatus = LATHE_SAMPLE_NAN;
  EXPECT_EQ(
      exitCode(engine->draftAndVerify(round.chosen().back(), kDrafts).status()),
      1);
}

} // namespace
} // namespace lathe
