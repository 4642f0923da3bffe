#include "tools/infer/Ledger.h"

#include "tests/tools/infer/LedgerFixture.h"

#include "gtest/gtest.h"

namespace lathe::cli {
namespace {

constexpr double kMicro = 1e-6;

Explanation explained(const LedgerStage &stage) {
  return explain(stage, kTestBandwidth);
}

double part(const Explanation &why, Stall stall) {
  return why.parts[int(stall)] / kMicro;
}

TEST(Ledger, PartsAddUpToTheLoss) {
  for (double inStep : {5 * kMicro, 12 * kMicro, 40 * kMicro}) {
    LedgerStage stage = testStage(inStep);
    stage.times.onSms = {{100, inStep}, {50, 24 * kMicro}, {25, 43 * kMicro}};
    const Explanation why = explained(stage);
    double sum = 0;
    for (double part : why.parts)
      sum += part;
    EXPECT_NEAR(sum, why.loss, 1e-12);
    EXPECT_NEAR(why.loss, std::max(inStep - 10 * kMicro, 0.0), 1e-12);
  }
}

TEST(Ledger, NearTheLimitAStageWaitsForWeights) {
  const Explanation why = explained(testStage(10.5 * kMicro));
  EXPECT_TRUE(why.atLimit);
  EXPECT_EQ(why.stall, Stall::Weights);
  EXPECT_FALSE(explained(testStage(12 * kMicro)).atLimit);
}

TEST(Ledger, WhatDoesNotShrinkWithTheWorkIsActivations) {
  // 5 us and 900 us / multiprocessors.
  LedgerStage stage = testStage(16 * kMicro);
  stage.times.onSms = {
      {100, 16 * kMicro}, {50, 23 * kMicro}, {25, 41 * kMicro}};
  const Explanation why = explained(stage);
  EXPECT_EQ(why.stall, Stall::Activations);
  EXPECT_NEAR(part(why, Stall::Launch), 1, 1e-6);
  EXPECT_NEAR(part(why, Stall::Activations), 4, 1e-6);
  EXPECT_NEAR(part(why, Stall::Arithmetic), 0, 1e-6);
  EXPECT_NEAR(part(why, Stall::Weights), 1, 1e-6);
}

TEST(Ledger, WorkThatOutlastsTheBytesIsArithmetic) {
  // 2 us and 1,800 us / multiprocessors.
  LedgerStage stage = testStage(20 * kMicro);
  stage.times.onSms = {
      {100, 20 * kMicro}, {50, 38 * kMicro}, {25, 74 * kMicro}};
  const Explanation why = explained(stage);
  EXPECT_EQ(why.stall, Stall::Arithmetic);
  EXPECT_NEAR(part(why, Stall::Arithmetic), 8, 1e-6);
}

TEST(Ledger, WhatNothingElseExplainsIsWeights) {
  // 1 us and 500 us / multiprocessors.
  LedgerStage stage = testStage(16 * kMicro);
  stage.times.onSms = {
      {100, 16 * kMicro}, {50, 11 * kMicro}, {25, 21 * kMicro}};
  const Explanation why = explained(stage);
  EXPECT_EQ(why.stall, Stall::Weights);
  EXPECT_NEAR(part(why, Stall::Weights), 5, 1e-6);
}

TEST(Ledger, AStageThatStreamsNothingIsAllFixed) {
  LedgerStage stage = testStage(3 * kMicro);
  stage.bytes = 0;
  EXPECT_EQ(explained(stage).stall, Stall::Activations);
  stage.times.empty = 2 * kMicro;
  const Explanation why = explained(stage);
  EXPECT_EQ(why.stall, Stall::Launch);
  EXPECT_NEAR(part(why, Stall::Activations), 1, 1e-6);
}

TEST(Ledger, ACacheIsExplainedByItsAbsence) {
  LedgerStage stage = testStage(20 * kMicro);
  stage.times.withoutCache = 4 * kMicro;
  const Explanation why = explained(stage);
  EXPECT_NEAR(part(why, Stall::Launch), 1, 1e-6);
  EXPECT_NEAR(part(why, Stall::Activations), 3, 1e-6);
  EXPECT_NEAR(part(why, Stall::Weights), 6, 1e-6);
  EXPECT_EQ(why.stall, Stall::Weights);
}

TEST(Ledger, MoreThanIsLostOverlaps) {
  LedgerStage stage = testStage(12 * kMicro);
  stage.times.alone = 30 * kMicro;
  stage.times.withoutCache = 8 * kMicro;
  const Explanation why = explained(stage);
  EXPECT_NEAR(part(why, Stall::Activations), 2 * 7 / 8.0, 1e-6);
  EXPECT_NEAR(part(why, Stall::Weights), 0, 1e-6);
}

TEST(Ledger, TheLargestLossOfAStepComesFirst) {
  Ledger ledger = testLedger();
  EXPECT_EQ(largestLosses(ledger, 3), (std::vector<size_t>{0, 1}));
  ledger.stages[1].calls = 100;
  EXPECT_EQ(largestLosses(ledger, 3), (std::vector<size_t>{1, 0}));
  EXPECT_EQ(largestLosses(ledger, 1), (std::vector<size_t>{1}));
}

TEST(Ledger, AddsUp) {
  const Ledger ledger = testLedger();
  EXPECT_NEAR(ledger.seconds(), 42.5 * kMicro, 1e-12);
  EXPECT_NEAR(ledger.bytes(), 30e6, 1e-3);
  EXPECT_EQ(ledger.launches(), 3);
}

TEST(Ledger, TheTableHasALinePerStage) {
  const std::string table = ledgerTable(testLedger());
  EXPECT_NE(table.find("T = 4 at 1000 positions: 0.042 ms, 3 launches; the "
                       "stages add up to 0.042 ms"),
            std::string::npos)
      << table;
  EXPECT_NE(table.find("| linear_0: gate_proj, up_proj | 2 | 2 | 10.00 | 16.00 "
                       "| 16.00 | 0.032 | 75.5 | 62.5 | 12 | activations | 96 "
                       "|\n"),
            std::string::npos)
      << table;
  EXPECT_NE(table.find("| weights (at the limit) |"), std::string::npos)
      << table;
}

} // namespace
} // namespace lathe::cli
