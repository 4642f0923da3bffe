//===- SpeculatorTest.cpp - what --spec says ------------------------------===//

#include "runtime/engine/Speculator.h"

#include "gtest/gtest.h"

namespace lathe {
namespace {

using Mode = SpecOptions::Mode;

TEST(ParseSpec, KnowsItsModes) {
  EXPECT_EQ(parseSpec("none")->mode, Mode::Off);
  EXPECT_EQ(parseSpec("auto")->mode, Mode::Auto);
  EXPECT_EQ(parseSpec("mtp:3")->mode, Mode::Mtp);
  EXPECT_EQ(parseSpec("mtp:3")->drafts, 3);
  EXPECT_EQ(parseSpec("ngram:5")->mode, Mode::Lookup);
}

TEST(ParseSpec, AStepVerifiesSevenDrafts) {
  EXPECT_EQ(parseSpec("ngram:8")->drafts, 7);
}

TEST(ParseSpec, RefusesTheRest) {
  for (const char *text : {"", "mtp", "mtp:", "mtp:0", "mtp:8", "mtp:3x",
                           "mtp:-1", "ngram:9", "ngram", "Auto"})
    EXPECT_EQ(exitCode(parseSpec(text).status()), 2) << text;
}

TEST(StepTokens, APlainStepIsAlwaysThere) {
  EXPECT_EQ(stepTokens({}), (std::vector<int64_t>{1}));
  EXPECT_EQ(stepTokens({Mode::Mtp, 3}), (std::vector<int64_t>{1, 4}));
  EXPECT_EQ(stepTokens({Mode::Auto, 7}), (std::vector<int64_t>{1, 2, 4, 8}));
}

} // namespace
} // namespace lathe
