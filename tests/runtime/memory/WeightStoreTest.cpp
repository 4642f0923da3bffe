#include "runtime/memory/WeightStore.h"
#include "runtime/memory/SyntheticWeights.h"

#include <gtest/gtest.h>

#include <cstring>

namespace lathe {
namespace {

PlannedWeight vector(std::string name, Layout layout,
                     std::vector<int64_t> shape) {
  return {std::move(name), layout, {}, std::move(shape)};
}

TEST(WeightStore, TransposedIsTransposed) {
  Plan plan;
  plan.weights.push_back(vector("taps", Layout::Transposed, {5, 3}));
  SyntheticWeights source;
  auto store = WeightStore::load(plan, source, 1);
  ASSERT_TRUE(store.ok());
  auto values = *source.tensor("taps", plan.weights[0].shape);
  auto *at = static_cast<const float *>(store->at(0));
  for (int r = 0; r < 5; ++r)
    for (int c = 0; c < 3; ++c)
      EXPECT_EQ(at[c * 5 + r], values[size_t(r * 3 + c)]);
}

TEST(WeightStore, ThreadsLoadTheSameBytes) {
  Plan plan;
  for (int i = 0; i < 7; ++i)
    plan.weights.push_back({"w" + std::to_string(i),
                            Layout::Tiles,
                            {WeightFormat::Int4, 40, 64, 32, false},
                            {}});
  SyntheticWeights source;
  auto one = WeightStore::load(plan, source, 1);
  auto three = WeightStore::load(plan, source, 3);
  ASSERT_TRUE(one.ok() && three.ok());
  EXPECT_EQ(std::memcmp(one->at(0), three->at(0), size_t(one->size())), 0);
}

TEST(WeightStore, ProgressEndsAtTheTotal) {
  Plan plan;
  plan.weights.push_back(vector("a", Layout::Vector, {100}));
  plan.weights.push_back(vector("b", Layout::Vector, {3}));
  SyntheticWeights source;
  int64_t last = 0, all = 0;
  auto store = WeightStore::load(plan, source, 2, [&](int64_t done, int64_t n) {
    last = done;
    all = n;
  });
  ASSERT_TRUE(store.ok());
  EXPECT_EQ(last, all);
  EXPECT_EQ(all, residentBytes(plan.weights[0], "cpu") +
                     residentBytes(plan.weights[1], "cpu"));
}

TEST(WeightStore, ReportsWhatTheSourceSays) {
  struct Broken : SyntheticWeights {
    StatusOr<std::vector<float>> tensor(const std::string &name,
                                        std::span<const int64_t>) override {
      return modelError(name + " is broken");
    }
  } source;
  Plan plan;
  plan.weights.push_back(vector("a", Layout::Vector, {1}));
  auto store = WeightStore::load(plan, source, 2);
  EXPECT_EQ(messageOf(store.status()), "a is broken");
}

} // namespace
} // namespace lathe
