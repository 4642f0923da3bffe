//===- TInvarianceTest.cpp - tokens per step do not change a bit ----------===//

#include "tests/e2e/TestModel.h"

#include "gtest/gtest.h"

namespace lathe::e2e {
namespace {

constexpr int64_t kTokens = 40;

class TInvariance : public testing::TestWithParam<int64_t> {
protected:
  /// Feeds 40 tokens, `GetParam()` at a time, in entries of exactly as many.
  void check(TestModel &model, int32_t vocab) {
    const Plan &plan = model.compiled({}).plan;
    const PlannedEntry *entry = plan.find("trunk", GetParam());
    ASSERT_TRUE(entry && !entry->prefill) << "not a decode entry";
    Ids ids = someIds(size_t(kTokens / GetParam() * GetParam()), vocab);
    auto one = model.engine({}, 2, 1);
    auto many = model.engine({}, 2, GetParam());
    const Rows wanted = logitsOf(*one, ids);
    const Rows found = logitsOf(*many, ids);
    EXPECT_TRUE(found.data == wanted.data)
        << "logits differ by " << maxDifference(found.data, wanted.data);
    auto expected = statesOf(*one, plan);
    for (auto &[name, values] : statesOf(*many, plan))
      EXPECT_TRUE(values == expected.at(name))
          << name << " differs by " << maxDifference(values, expected.at(name));
  }
};

TEST_P(TInvariance, FloatWeights) { check(tinyModel(), 320); }

TEST_P(TInvariance, Int4Weights) { check(demoModel(), 4082); }

INSTANTIATE_TEST_SUITE_P(Step, TInvariance, testing::Values(2, 3, 4, 5, 8));

} // namespace
} // namespace lathe::e2e
