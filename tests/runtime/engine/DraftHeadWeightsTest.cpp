//===- DraftHeadWeightsTest.cpp - the draft head's rows -------------------===//

#include "runtime/engine/DraftHeadWeights.h"

#include "runtime/memory/SyntheticWeights.h"

#include "gtest/gtest.h"

namespace lathe {
namespace {

constexpr int64_t kVocab = 64, kWidth = 128;

PlannedWeight planned(const std::string &name, const WeightDesc &desc) {
  return {name, Layout::Tiles, desc, {}};
}

class DraftHeadWeightsTest : public testing::Test {
protected:
  /// The draft head with rows `ids` of a head of format `head`.
  StatusOr<HostWeight> read(const WeightDesc &head, const WeightDesc &draft,
                            std::vector<int32_t> ids) {
    plan.weights = {planned("lm_head", head), planned("lm_head.draft", draft)};
    return withDraftHead(source, plan, std::move(ids))
        ->weight("lm_head.draft", draft);
  }
  std::vector<float> row(const HostWeight &weight, int64_t i) {
    std::vector<float> values(kWidth);
    weight.dequantizeRow(i, values.data());
    return values;
  }
  static double distance(const std::vector<float> &a,
                         const std::vector<float> &b) {
    double error = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      error += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
      norm += double(b[i]) * b[i];
    }
    return error / norm;
  }

  Plan plan;
  SyntheticWeights source;
  const WeightDesc bf16{WeightFormat::BF16, kVocab, kWidth, 0, false};
  const WeightDesc int4{WeightFormat::Int4, kVocab, kWidth, 128, false};
  const std::vector<int32_t> ids = {5, 0, 63};
};

TEST_F(DraftHeadWeightsTest, RowsOfTheSameFormatAreTheSame) {
  for (WeightDesc head : {bf16, int4}) {
    WeightDesc draft = head;
    draft.rows = 3;
    auto found = read(head, draft, ids);
    ASSERT_TRUE(found.ok()) << messageOf(found.status());
    auto full = source.weight("lm_head", head);
    for (size_t i = 0; i < ids.size(); ++i)
      EXPECT_EQ(row(*found, int64_t(i)), row(*full, ids[i]));
  }
}

TEST_F(DraftHeadWeightsTest, RowsAreRoundedToFourBits) {
  auto full = source.weight("lm_head", bf16);
  for (WeightFormat format : {WeightFormat::Int4, WeightFormat::NvFp4}) {
    const int32_t group = format == WeightFormat::Int4 ? 128 : 16;
    auto found = read(bf16, {format, 3, kWidth, group, false}, ids);
    ASSERT_TRUE(found.ok()) << messageOf(found.status());
    for (size_t i = 0; i < ids.size(); ++i)
      EXPECT_LT(distance(row(*found, int64_t(i)), row(*full, ids[i])), 0.02);
  }
}

TEST_F(DraftHeadWeightsTest, EightBitsAreTwoDigitsSideBySide) {
  auto full = source.weight("lm_head", bf16);
  auto found = read(bf16, {WeightFormat::Int4, 3, 2 * kWidth, 128, false}, ids);
  ASSERT_TRUE(found.ok()) << messageOf(found.status());
  for (size_t i = 0; i < ids.size(); ++i) {
    std::vector<float> digits(2 * kWidth), sum;
    found->dequantizeRow(int64_t(i), digits.data());
    for (size_t c = 0; c < size_t(kWidth); ++c)
      sum.push_back(digits[c] + digits[size_t(kWidth) + c]);
    EXPECT_LT(distance(sum, row(*full, ids[i])), 1e-4);
    EXPECT_GT(distance(sum, row(*full, ids[i])), 0);
  }
}

TEST_F(DraftHeadWeightsTest, OtherWeightsPass) {
  auto draft = withDraftHead(source, plan, {});
  auto found = draft->weight("lm_head", int4);
  EXPECT_EQ(found->data, source.weight("lm_head", int4)->data);
}

TEST_F(DraftHeadWeightsTest, ATokenThatTheModelLacksIsAUsageError) {
  WeightDesc draft = bf16;
  draft.rows = 1;
  Status status = read(bf16, draft, {64}).status();
  EXPECT_EQ(exitCode(status), 2);
}

} // namespace
} // namespace lathe
