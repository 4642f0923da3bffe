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

TEST(CudaTarget, AProfileKeepsAwayFromTheLimit) {
  EXPECT_EQ(parseCudaTarget("sm_120")->sharedPerBlock, 99 * 1024);
  EXPECT_EQ(profileLimits("sm_120")->sharedPerBlock, 96 * 1024);
  EXPECT_EQ(profileLimits("sm_120")->warpsPerSm, 48);
  EXPECT_EQ(exitCode(profileLimits("sm_12").status()), 2);
}

/// How many blocks fit into an SM by shared memory.
int together(const CudaTarget &target, int dynamicShared) {
  return target.sharedPerSm / (dynamicShared + 1024);
}

TEST(CudaTarget, AsManyBlocksShareAnSmAsInTheProfile) {
  const CudaTarget limits = *parseCudaTarget("sm_120");
  const CudaTarget device = *parseCudaTarget("sm_90a");
  for (int kib : {99, 96, 60, 49, 40, 33, 20, 10})
    EXPECT_EQ(together(device, sharedForShare(limits, device, 64, kib * 1024)),
              together(limits, kib * 1024))
        << kib;
  // 48 warps and 24 blocks.
  EXPECT_EQ(together(device, sharedForShare(limits, device, 512, 0)), 3);
  EXPECT_EQ(together(device, sharedForShare(limits, device, 1024, 0)), 1);
  EXPECT_EQ(together(device, sharedForShare(limits, device, 32, 0)), 24);
}

TEST(CudaTarget, AShareNeverTakesMemoryAway) {
  const CudaTarget small = *parseCudaTarget("sm_120");
  const CudaTarget large = *parseCudaTarget("sm_90a");
  EXPECT_EQ(sharedForShare(large, small, 32, 50000), 50000);
  EXPECT_EQ(sharedForShare(small, large, 1024, 99 * 1024), 227 * 1024);
}

} // namespace
} // namespace lathe
