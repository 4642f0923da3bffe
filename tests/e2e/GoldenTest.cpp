//===- GoldenTest.cpp - the tiny checkpoint against transformers ----------===//
//
// tests/data/golden/qwen3_5 holds random weights and the float32 outputs of
// transformers. Logits there are up to 20 in magnitude and float32 itself
// leaves 5e-5 (a float64 oracle against the file).
//
//===----------------------------------------------------------------------===//

#include "tests/e2e/TestModel.h"

#include "gtest/gtest.h"

namespace lathe::e2e {
namespace {

constexpr double kTolerance = 1e-3;
constexpr float kClearMargin = 0.05f;

const GoldenFile &golden() {
  static GoldenFile file(LATHE_TEST_DATA
                         "/golden/qwen3_5/expected.safetensors");
  return file;
}

Ids prompt(int tokens) {
  return golden().ids("t" + std::to_string(tokens) + ".input_ids");
}

Rows expected(int tokens) {
  return golden().rows("t" + std::to_string(tokens) + ".logits");
}

class ReferenceGolden : public testing::TestWithParam<int> {};

TEST_P(ReferenceGolden, LogitsMatch) {
  ReferenceModel model(tinyModel());
  double worst = maxDifference(model.logits(prompt(GetParam())).data,
                               expected(GetParam()).data);
  std::printf("reference, %d tokens: max abs %.2e\n", GetParam(), worst);
  EXPECT_LT(worst, 2e-4);
}
INSTANTIATE_TEST_SUITE_P(Tokens, ReferenceGolden,
                         testing::Values(1, 3, 17, 65));

/// AVX-512 (or the best there is) and AVX2.
class EngineGolden : public testing::TestWithParam<bool> {
protected:
  Build build() const { return {.avx2 = GetParam()}; }
};

TEST_P(EngineGolden, LogitsMatch) {
  auto engine = tinyModel().engine(build(), 2);
  for (int tokens : {1, 3, 17, 65, 130}) {
    double worst = maxDifference(logitsOf(*engine, prompt(tokens)).data,
                                 expected(tokens).data);
    std::printf("engine%s, %d tokens: max abs %.2e\n",
                GetParam() ? " avx2" : "", tokens, worst);
    EXPECT_LT(worst, kTolerance) << tokens << " tokens";
  }
}

TEST_P(EngineGolden, GreedyTokensMatchWhereTheChoiceIsClear) {
  auto engine = tinyModel().engine(build());
  const Ids wanted = golden().ids("t17.greedy");
  const Rows margin = golden().rows("t17.greedy_margin");
  // Feeding the expected text keeps one near tie from changing the rest.
  const Rows logits = logitsOf(*engine, wanted);
  for (size_t i = 16; i + 1 < wanted.size(); ++i) {
    if (margin.data[i] <= kClearMargin)
      continue;
    const float *row = logits.row(int64_t(i));
    EXPECT_EQ(std::max_element(row, row + logits.cols) - row, wanted[i + 1])
        << "at position " << i + 1;
  }
}

TEST_P(EngineGolden, ThreadsDoNotChangeABit) {
  const Rows one = logitsOf(*tinyModel().engine(build(), 1), prompt(130));
  const Rows two = logitsOf(*tinyModel().engine(build(), 2), prompt(130));
  EXPECT_TRUE(one.data == two.data)
      << "max abs " << maxDifference(one.data, two.data);
}

INSTANTIATE_TEST_SUITE_P(Isa, EngineGolden, testing::Bool(),
                         [](const auto &info) {
                           return info.param ? "Avx2" : "Best";
                         });

TEST(EngineGreedy, FreeRunningTextMatches) {
  auto engine = tinyModel().engine({});
  EXPECT_EQ(greedyText(*engine, prompt(17), 48, int32_t(engine->vocab())),
            golden().ids("t17.greedy"));
}

} // namespace
} // namespace lathe::e2e
