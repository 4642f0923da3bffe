#include "runtime/engine/SmHold.h"

#include "tests/runtime/cuda/CudaFixture.h"

#include <algorithm>

namespace lathe {
namespace {

/// A hold whose block b runs on multiprocessor placeOf(b).
class SmHoldTest : public cuda::CudaTest {
protected:
  void SetUp() override {
    config->kernels = [this](std::string_view, const auto &shape,
                             void **arguments) {
      blocks = int(shape.gridX);
      shared = int(shape.dynamicSharedBytes);
      flags = *static_cast<uint32_t **>(arguments[0]);
      return [this] {
        for (int block = 0; block < blocks; ++block)
          flags[1 + block] = uint32_t(1 + placeOf(block));
      };
    };
    context = makeContext();
    auto loaded =
        cuda::Module::load(*context, cuda::fakeImage(90, {"hold"}), "measure");
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    module = *std::move(loaded);
    auto found = module.function("hold");
    ASSERT_TRUE(found.ok()) << found.status();
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
  uint32_t *flags = nullptr;
  int blocks = 0, shared = 0;
};

TEST_F(SmHoldTest, TakesAllButTheFreeOnesWhole) {
  auto held = SmHold::create(*context, hold, 3);
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ((*held)->held(), sms() - 3);
  EXPECT_EQ(blocks, sms() - 3);
  EXPECT_EQ(shared + hold.staticShared, context->device().sharedPerBlock);
  EXPECT_TRUE((*held)->check().ok());
  EXPECT_EQ(flags[0], 0u);
}

TEST_F(SmHoldTest, HoldsNothingWhenAllAreFree) {
  auto held = SmHold::create(*context, hold, sms());
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ((*held)->held(), 0);
  EXPECT_EQ(state->launches, 0);
}

TEST_F(SmHoldTest, RefusesMoreThanThereAre) {
  EXPECT_EQ(exitCode(SmHold::create(*context, hold, sms() + 1).status()), 2);
  EXPECT_EQ(exitCode(SmHold::create(*context, hold, 0).status()), 2);
}

TEST_F(SmHoldTest, TwoBlocksOnOneMultiprocessorAreAnError) {
  placeOf = [](int) { return 7; };
  EXPECT_EQ(exitCode(SmHold::create(*context, hold, 3).status()), 1);
}

TEST_F(SmHoldTest, SaysWhenItHasGivenUp) {
  auto held = SmHold::create(*context, hold, 3);
  ASSERT_TRUE(held.ok());
  flags[2] = ~0u;
  EXPECT_EQ(exitCode((*held)->check()), 1);
}

} // namespace
} // namespace lathe
