#include "runtime/base/CudaTarget.h"

#include "gtest/gtest.h"

namespace lathe {
namespace {

TEST(CudaTargetTest, KnowsTheLimits) {
  CudaTarget hopper = *parseCudaTarget("sm_90");
  EXPECT_EQ(hopper.sharedPerBlock, 232448);
  EXPECT_EQ(hopper.warpsPerSm, 64);
  EXPECT_EQ(hopper.blocksPerSm, 32);
  CudaTarget geforce = *parseCudaTarget("sm_120f");
  EXPECT_EQ(geforce.arch, "sm_120f");
  EXPECT_EQ(geforce.major, 12);
  EXPECT_EQ(geforce.minor, 0);
  EXPECT_EQ(geforce.sharedPerBlock, 101376);
  EXPECT_EQ(geforce.sharedPerSm, 102400);
  EXPECT_EQ(geforce.warpsPerSm, 48);
  EXPECT_EQ(geforce.defaultSms, 36);
  EXPECT_EQ(parseCudaTarget("sm_80")->sharedPerBlock, 166912);
  EXPECT_EQ(parseCudaTarget("sm_89")->sharedPerBlock, 101376);
  EXPECT_EQ(parseCudaTarget("sm_100a")->sharedPerBlock, 232448);
}

TEST(CudaTargetTest, RejectsWhatDoesNotExist) {
  for (const char *arch : {"", "sm_75", "sm_90f", "sm_80a", "sm_120x",
                           "compute_90", "sm_900", "sm_90 "}) {
    Status status = parseCudaTarget(arch).status();
    EXPECT_EQ(exitCode(status), 2) << arch;
    EXPECT_NE(messageOf(status).find("sm_90a"), std::string::npos);
  }
}

TEST(CudaTargetTest, RunsOn) {
  auto runs = [](const char *arch, int major, int minor) {
    return runsOn(*parseCudaTarget(arch), major, minor);
  };
  EXPECT_TRUE(runs("sm_80", 8, 9));
  EXPECT_FALSE(runs("sm_89", 8, 6));
  EXPECT_FALSE(runs("sm_90", 10, 0));
  EXPECT_TRUE(runs("sm_90a", 9, 0));
  EXPECT_FALSE(runs("sm_120a", 12, 1));
  EXPECT_TRUE(runs("sm_120f", 12, 0));
  EXPECT_TRUE(runs("sm_120f", 12, 1));
}

TEST(CudaTargetTest, WarpgroupMma) {
  EXPECT_TRUE(hasWarpgroupMma(*parseCudaTarget("sm_90a")));
  EXPECT_FALSE(hasWarpgroupMma(*parseCudaTarget("sm_90")));
  EXPECT_FALSE(hasWarpgroupMma(*parseCudaTarget("sm_120a")));
}

TEST(CudaTargetTest, TargetForDevice) {
  EXPECT_EQ(cudaTargetFor(8, 6)->arch, "sm_86");
  EXPECT_EQ(cudaTargetFor(9, 0)->arch, "sm_90a");
  EXPECT_EQ(cudaTargetFor(10, 3)->arch, "sm_100f");
  EXPECT_EQ(cudaTargetFor(12, 0)->arch, "sm_120f");
  EXPECT_EQ(cudaTargetFor(12, 1)->arch, "sm_120f");
  EXPECT_EQ(cudaTargetFor(9, 5)->arch, "sm_90");
  EXPECT_EQ(exitCode(cudaTargetFor(7, 5).status()), 4);
  EXPECT_EQ(exitCode(cudaTargetFor(13, 0).status()), 4);
}

} // namespace
} // namespace lathe
