#include "runtime/engine/SmHold.h"

#include "tests/runtime/cuda/CudaFixture.h"

#include <algorithm>

namespace lathe {
namespace {

/// Holds whose block b says that it runs on placeOf(b), none ever ends.
class SmHoldTest : public cuda::CudaTest {
protected:
  struct Seen {
    int blocks, shared;
    uint32_t *flags;
  };

  void SetUp() override {
    config->kernels = [this](std::string_view, const auto &shape,
                             void **arguments) {
      const Seen launch{int(shape.gridX), int(shape.dynamicSharedBytes),
                        *static_cast<uint32_t **>(arguments[0])};
      seen.push_back(launch);
      return [this, launch] {
        for (int block = 0; block < launch.blocks; ++block)
          launch.flags[launch.blocks + block] = uint32_t(1 + placeOf(block));
      };
    };
    context = makeContext();
    auto loaded =
        cuda::Module::load(*context, cuda::fakeImage(90, {"hold"}), "measure");
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    module = *std::move(loaded);
    auto found = module.function("hold");
    ASSERT_TRUE(found.ok()) << found.status();
    hold = *found;
    found = module.function("hold", context->device().sharedPerBlock -
                                        found->staticShared);
    ASSERT_TRUE(found.ok()) << found.status();
    hold = *found;
  }
  int sms() const { return context->device().sms; }

  std::unique_ptr<cuda::Context> context;
  cuda::Module module;
  cuda::Function hold;
  std::function<int(int)> placeOf = [](int block) { return block; };
  std::vector<Seen> seen;
};

TEST_F(SmHoldTest, TakesAllWholeAndFreesSome) {
  auto held = SmHold::create(*context, hold, 4);
  ASSERT_TRUE(held.ok()) << held.status();
  ASSERT_EQ(seen.size(), 2u) << "the hold, and one that tries what is free";
  EXPECT_EQ(seen[0].blocks, sms());
  EXPECT_EQ(seen[0].shared + hold.staticShared,
            context->device().sharedPerBlock);
  EXPECT_EQ(std::count(seen[0].flags, seen[0].flags + sms(), 1u), 4);
  EXPECT_EQ(seen[1].blocks, 4);
}

TEST_F(SmHoldTest, RefusesMoreThanThereAre) {
  EXPECT_EQ(exitCode(SmHold::create(*context, hold, sms() + 1).status()), 2);
  EXPECT_EQ(exitCode(SmHold::create(*context, hold, 0).status()), 2);
  EXPECT_TRUE(SmHold::create(*context, hold, sms()).ok());
}

TEST_F(SmHoldTest, TwoBlocksOnOneMultiprocessorAreAnError) {
  placeOf = [](int) { return 7; };
  EXPECT_EQ(exitCode(SmHold::create(*context, hold, 3).status()), 1);
}

TEST_F(SmHoldTest, WhatCannotBeUsedAtOnceIsAnError) {
  auto held = SmHold::create(*context, hold, 4);
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_TRUE((*held)->check().ok());
  placeOf = [](int block) { return block / 2; };
  EXPECT_EQ(exitCode((*held)->check()), 1);
  const int pinned = state->pinned;
  placeOf = [](int block) { return block; };
  EXPECT_TRUE((*held)->check().ok());
  EXPECT_EQ(state->pinned, pinned) << "freeing waits for the hold";
}

TEST_F(SmHoldTest, SaysWhenItHasGivenUp) {
  auto held = SmHold::create(*context, hold, 3);
  ASSERT_TRUE(held.ok());
  seen[0].flags[sms() + 1] = ~0u;
  EXPECT_EQ(exitCode((*held)->check()), 1);
}

TEST(SmHold, SpreadsPairsEvenly) {
  EXPECT_EQ(SmHold::spread(8, 4), (std::vector<int>{0, 1, 4, 5}));
  EXPECT_EQ(SmHold::spread(8, 3), (std::vector<int>{0, 1, 4}));
  for (auto [sms, count] : {std::pair{132, 36}, {132, 33}, {131, 66}, {7, 7}}) {
    std::vector<int> places = SmHold::spread(sms, count);
    EXPECT_EQ(int(places.size()), count);
    std::ranges::sort(places);
    EXPECT_EQ(std::ranges::adjacent_find(places), places.end());
    EXPECT_GE(places.front(), 0);
    EXPECT_LT(places.back(), sms);
  }
}

} // namespace
} // namespace lathe
