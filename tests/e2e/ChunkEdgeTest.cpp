//===- ChunkEdgeTest.cpp - prompts cut at every edge ----------------------===//
//
// However a prompt is cut into chunks, every position's logits and the states
// at the end are those of feeding token by token.
//
//===----------------------------------------------------------------------===//

#include "tests/e2e/TestModel.h"

#include "gtest/gtest.h"

namespace lathe::e2e {
namespace {

constexpr int64_t kLengths[] = {1, 2, 63, 64, 65, 127, 128, 129, 130};
constexpr size_t kLongest = 130;

/// Differences from token by token.
struct Differences {
  double logits = 0, states = 0;
};

/// What token by token gives for the longest prompt, and after each length.
struct Steps {
  Rows logits;
  std::map<int64_t, std::map<std::string, std::vector<float>>> states;
};

Steps stepThrough(TestModel &model, const Ids &ids) {
  const Plan &plan = model.compiled({}).plan;
  auto engine = model.engine({}, 2, 1);
  Steps steps;
  size_t done = 0;
  for (int64_t length : kLengths) {
    appendLogits(*engine, std::span(ids).subspan(done, size_t(length) - done),
                 steps.logits);
    done = size_t(length);
    steps.states[length] = statesOf(*engine, plan);
  }
  return steps;
}

Differences differencesOf(TestModel &model, const Ids &ids, int64_t chunk) {
  const Plan &plan = model.compiled({}).plan;
  const Steps steps = stepThrough(model, ids);
  auto engine = model.engine({}, 2, chunk);
  Differences worst;
  for (int64_t length : kLengths) {
    const Rows rows = logitsOf(*engine, Ids(ids.begin(), ids.begin() + length));
    std::span<const float> wanted(steps.logits.data);
    worst.logits = std::max(
        worst.logits,
        maxDifference(rows.data, wanted.first(size_t(length * rows.cols))));
    for (auto &[name, values] : statesOf(*engine, plan))
      worst.states =
          std::max(worst.states,
                   maxDifference(values, steps.states.at(length).at(name)));
  }
  std::printf("chunks of %d: logits max abs %.2e, states %.2e\n", int(chunk),
              worst.logits, worst.states);
  return worst;
}

class ChunkEdge : public testing::TestWithParam<int64_t> {};

TEST_P(ChunkEdge, FloatWeightsAgree) {
  Differences worst =
      differencesOf(tinyModel(), someIds(kLongest, 320), GetParam());
  EXPECT_LT(worst.logits, 2e-4);
  EXPECT_LT(worst.states, 2e-4);
}

// Rounding activations to 15 bits turns differences of the last bit of a float
// into differences of one step of 2^-14: 2.4e-3 in logits was measured, 1.2e-3
// in states, and 1.9e-5 in both with float weights.
TEST_P(ChunkEdge, Int4WeightsAgree) {
  Differences worst =
      differencesOf(demoModel(), someIds(kLongest, 4082), GetParam());
  EXPECT_LT(worst.logits, 6e-3);
  EXPECT_LT(worst.states, 3e-3);
}

INSTANTIATE_TEST_SUITE_P(Chunks, ChunkEdge, testing::Values(64, 128, 256));

} // namespace
} // namespace lathe::e2e
