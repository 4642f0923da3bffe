//===- RoundTest.cpp - the entries between the parts of a round -----------===//

#include "tests/kernels/cuda/emulator/intrinsics.h"

#include "compiler/device/cuda/round.cu"
#include "tests/kernels/cuda/emulator/Emulator.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace {

constexpr int kDrafts = 3;

/// Accepts drafts {1, 2, 3} behind token 0 at position 20.
LatheRound accepted(const std::vector<int> &choices, std::vector<int> &tokens,
                    const std::vector<float> &forced = {}) {
  LatheRound round{};
  round.trunk = {20, kDrafts + 1, 2};
  round.forcedCount = int(forced.size());
  std::copy(forced.begin(), forced.end(), round.forced);
  std::copy(choices.begin(), choices.end(), round.choices);
  tokens = {0, 1, 2, 3};
  LatheRound host{};
  emulator::runGrid({1, 1, 32, 0, emulator::Order::kAscending, 5}, [&] {
    lathe::round_accept(&round, tokens.data(), kDrafts, &host);
  });
  EXPECT_EQ(std::memcmp(&host, &round, sizeof round), 0) << "the host's copy";
  return round;
}

TEST(RoundAccept, KeepsTheDraftsBeforeTheFirstThatDiffers) {
  for (int wrong = 0; wrong <= kDrafts; ++wrong) {
    std::vector<int> choices = {1, 2, 3, 9}, tokens;
    choices[size_t(wrong)] = 9;
    LatheRound round = accepted(choices, tokens);
    EXPECT_EQ(round.accepted, wrong);
    EXPECT_EQ(tokens[0], 9) << "the next round starts with the last choice";
    for (int i = 0; i < LATHE_REPLAY_TOKENS; ++i)
      EXPECT_EQ(round.chosen[i], i < wrong ? i + 1 : 9);
  }
}

TEST(RoundAccept, LeavesTheStepsOfTheNextRound) {
  std::vector<int> tokens;
  LatheRound round = accepted({1, 2, 9, 7}, tokens); // two drafts hold
  EXPECT_EQ(round.slots.position, 20);
  EXPECT_EQ(round.slots.tokens, kDrafts + 1);
  EXPECT_EQ(round.trunk.position, 23);
  EXPECT_EQ(round.trunk.pending, 3);
  EXPECT_EQ(round.slot[1].position, 23) << "of the second draft";
  EXPECT_EQ(round.before[0].position, 23);
  EXPECT_EQ(round.before[2].position, 25);
}

TEST(RoundAccept, AcceptanceCanBeForced) {
  std::vector<int> tokens;
  EXPECT_EQ(accepted({9, 9, 9, 9}, tokens, {1, 1}).accepted, 2);
  EXPECT_EQ(tokens[0], 9);
  EXPECT_EQ(accepted({1, 2, 3, 9}, tokens, {1, 0, 0}).accepted, 1);
}

TEST(RoundRow, CopiesTheRowOfTheLastAcceptedToken) {
  constexpr int kVectors = 5;
  std::vector<lathe::Float4> rows(4 * kVectors), to(kVectors + 1);
  for (size_t i = 0; i < rows.size(); ++i)
    rows[i] = {float(i), float(i) + 0.25f, float(i) + 0.5f, float(i) + 0.75f};
  to.back().x = -7;
  LatheRound round{};
  round.accepted = 2;
  emulator::runGrid({1, 1, 256, 0, emulator::Order::kAscending, 5}, [&] {
    lathe::round_row(&round, rows.data(), to.data(), kVectors);
  });
  for (size_t i = 0; i < kVectors; ++i)
    EXPECT_EQ(to[i].w, rows[2 * kVectors + i].w);
  EXPECT_EQ(to.back().x, -7);
}

} // namespace
