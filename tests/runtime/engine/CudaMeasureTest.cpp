//===- CudaMeasureTest.cpp - which launches the engine times --------------===//

#include "tests/runtime/engine/FakeModel.h"

#include <utility>

namespace lathe {
namespace {

using CudaMeasureTest = CudaModelTest;

TEST_F(CudaMeasureTest, Measures) {
  auto engine = create();
  auto step = engine->timeStep(1, 3);
  ASSERT_TRUE(step.ok()) << step.status();
  EXPECT_GE(step->launches, kTestTrunkLaunches + kTestHeadLaunches);
  EXPECT_GT(step->seconds, 0);
  auto layer = engine->time("trunk", 4, 1, {.repetitions = 3});
  ASSERT_TRUE(layer.ok());
  EXPECT_EQ(layer->launches, 2);
  EXPECT_FALSE(engine->time("mtp", 1, -1, {}).ok());
  EXPECT_FALSE(engine->timeStep(100, 3).ok());
  EXPECT_FALSE(engine->timeRange(100, 0, 1, 3).ok());
  // The next step knows nothing of what was measured.
  tokens.clear();
  ASSERT_TRUE(engine->step(9).ok());
  EXPECT_EQ(tokens, (std::vector<SeenToken>{{9, 0}}));
}

TEST_F(CudaMeasureTest, TimesARangeOfAStep) {
  auto engine = create();
  // Embedding, a layer of two stages, head, choice.
  const int stages[] = {1, 2, 1, 3};
  for (int begin = 0; begin < 4; ++begin) {
    int expected = 0;
    for (int end = begin + 1; end <= 4; ++end) {
      expected += stages[end - 1];
      auto timing = engine->timeRange(1, begin, end, 1);
      ASSERT_TRUE(timing.ok()) << timing.status();
      EXPECT_EQ(timing->launches, expected) << begin << " to " << end;
    }
  }
}

TEST_F(CudaMeasureTest, AGridShrinksByItsGrain) {
  plan.kernels[1].stages[0].blocks = 12;
  plan.kernels[1].stages[0].grain = 3;
  plan.kernels[1].stages[1].blocks = 12;
  auto engine = create();
  for (auto [sms, blocks] : {std::pair{0, 12u}, {20, 12u}, {8, 6u}, {1, 3u}}) {
    launches.clear();
    ASSERT_TRUE(
        engine->time("trunk", 1, 1, {.repetitions = 1, .sms = sms}).ok());
    ASSERT_EQ(launches.size(), 2u);
    EXPECT_EQ(launches[0].blocks, blocks) << sms;
    EXPECT_EQ(launches[1].blocks, 12u) << "no grain";
  }
}

TEST_F(CudaMeasureTest, EmptyLaunchesHaveTheShapeOfTheOthers) {
  auto engine = create();
  auto full = engine->time("trunk", 1, 1, {.repetitions = 1});
  const std::vector<SeenLaunch> real = std::exchange(launches, {});
  auto empty = engine->time("trunk", 1, 1, {.repetitions = 1, .empty = true});
  ASSERT_TRUE(full.ok() && empty.ok()) << empty.status();
  ASSERT_EQ(launches.size(), real.size());
  for (size_t i = 0; i < real.size(); ++i) {
    EXPECT_EQ(launches[i].entry, "nothing");
    EXPECT_EQ(launches[i].blocks, real[i].blocks);
    EXPECT_EQ(launches[i].threads, real[i].threads);
    EXPECT_EQ(launches[i].shared, real[i].shared);
    EXPECT_EQ(launches[i].programmatic, real[i].programmatic);
  }
}

} // namespace
} // namespace lathe
