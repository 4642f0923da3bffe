#include "tools/infer/Profile.h"

#include "gtest/gtest.h"

namespace lathe::cli {
namespace {

/// A kernel slower than 448 GB/s by its multiprocessors and one that is not.
ProfileStep testStep() {
  ProfileStep step{2, 1000, 0.9e-3};
  step.stages = {{"slow", 10, 4.48e6, 30e-6, 2e-6},
                 {"fast", 20, 8.96e6, 20e-6, 2e-6}};
  return step;
}

TEST(Profile, SustainsTheBytesOfTheStep) {
  EXPECT_NEAR(testStep().bytes(), 224e6, 1);
  EXPECT_NEAR(testStep().sustained(), 224e6 / 0.9e-3, 1);
}

TEST(Profile, ACardIsAsSlowAsItsMemoryOrItsMultiprocessors) {
  // 10 x 30 and 20 x 20 us, and 0.2 ms that no stage has.
  EXPECT_NEAR(projectedSeconds(testStep(), kProjectedBandwidth, 1),
              10 * 30e-6 + 20 * 20e-6 + 0.2e-3, 1e-12);
  // Of half the bandwidth, by bytes.
  EXPECT_NEAR(projectedSeconds(testStep(), kProjectedBandwidth / 2, 1),
              10 * 30e-6 + 20 * 40e-6 + 0.2e-3, 1e-12);
}

TEST(Profile, TwoCardsHalveAllButLaunches) {
  EXPECT_NEAR(projectedSeconds(testStep(), kProjectedBandwidth, 2),
              10 * 16e-6 + 20 * 11e-6 + 0.2e-3, 1e-12);
}

TEST(Profile, AStepShorterThanItsStagesOverlapsThem) {
  ProfileStep step = testStep();
  step.seconds = 0.5e-3;
  EXPECT_NEAR(projectedSeconds(step, kProjectedBandwidth, 1), 0.7e-3, 1e-12);
}

TEST(Profile, UseIsTheMostOfDecodeKernels) {
  Plan plan;
  plan.kernels = {{"a", 0, 0, 0, {{"a", 448, 36, 0, 98304}}},
                  {"b", 0, 0, 0, {{"b", 512, 36, 0, 1024}}},
                  {"prompt", 0, 0, 0, {{"prompt", 1024, 36, 0, 200000}}}};
  plan.entries = {{"trunk", 1, false, 0, {}, {}, {{0, {}}, {1, {}}}},
                  {"trunk", 64, true, 0, {}, {}, {{2, {}}}}};
  const ProfileUse use = profileUse(plan);
  EXPECT_EQ(use.dynamicShared, 98304);
  EXPECT_EQ(use.warps, 16);
}

TEST(Profile, TheReportCallsAProjectionOne) {
  ProfileReport report{"Test GPU", 132, {"sm_120", 36}, {98304, 14}, 1.1e12};
  report.steps = {testStep()};
  const std::string text = profileText(report, false);
  for (const char *part :
       {"Profile sm_120: kernels planned for 36 multiprocessors",
        "at most 96.0 KB of shared memory and 14 warps",
        "on exactly 36 of the 132 multiprocessors of a Test GPU",
        "can read 1100 GB/s",
        "| T = 2 at 1000 | 0.900 | 0.224 | 249 | 2222.2 | 2222.2 | 4000.0 | "
        "3448.3 |",
        "are a projection, not a measurement"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  EXPECT_EQ(text.find("| slow |"), std::string::npos);
  EXPECT_NE(profileText(report, true)
                .find("| slow | 10 | 4.48 | 30.0 | 2.0 | 149 | 10.0 |"),
            std::string::npos);
}

} // namespace
} // namespace lathe::cli
