//===- DemoTest.cpp - the demo model against the numpy oracle -------------===//
//
// golden_int4.safetensors holds float64 outputs of tests/data/oracle on the
// same INT4 weights. Logits are up to 25 in magnitude.
//
//===----------------------------------------------------------------------===//

#include "tests/e2e/TestModel.h"

#include "gtest/gtest.h"

namespace lathe::e2e {
namespace {

// Decode and "int15" hold activations of integer weights in 15 bits per group
// of 128, "int8" in 8; both bounds are about 2.5 times what was measured:
// 1.9e-3 and 0.21. Float weights measure 1.6e-5.
constexpr double kInt15Tolerance = 5e-3;
constexpr double kInt8Tolerance = 0.5;
constexpr double kFloatTolerance = 1e-3;
constexpr float kClearMargin = 0.05f;
constexpr int32_t kUsedVocab = 4082;

const GoldenFile &golden() {
  static GoldenFile file(LATHE_TEST_DATA "/demo/golden_int4.safetensors");
  return file;
}

std::string named(int prompt, const char *what) {
  return "p" + std::to_string(prompt) + "." + what;
}

/// The largest difference over the prompts that have logits.
double worstLogits(TestModel &model, const Build &build, const GoldenFile &file,
                   int prompts, int64_t chunk = 256) {
  auto engine = model.engine(build, 2, chunk);
  double worst = 0;
  for (int p = 0; p < prompts; ++p)
    worst = std::max(
        worst,
        maxDifference(logitsOf(*engine, file.ids(named(p, "input_ids"))).data,
                      file.rows(named(p, "logits")).data));
  return worst;
}

/// MTP logits of the slots that `file` has for prompt 0: token p + 1 with
/// hidden row p.
Rows mtpLogits(TestModel &model, const GoldenFile &file, int64_t slots) {
  auto engine = model.engine({});
  const Ids text = file.ids("p0.greedy");
  const Ids prompt = file.ids("p0.input_ids");
  need(engine->feed(prompt));
  Engine::Input in[2];
  in[0].tokens = std::span<const int32_t>(text).subspan(1, size_t(slots));
  in[1].rows = engine->hidden();
  in[1].rows.rows = slots;
  RowsView hidden = need(engine->run("mtp", in, slots, 0));
  Rows rows(0, 0);
  need(engine->logits(hidden, [&](RowsView batch) {
    rows.cols = batch.width;
    for (int64_t i = 0; i < batch.rows; ++i, ++rows.rows)
      rows.data.insert(rows.data.end(), batch.row(i).begin(),
                       batch.row(i).end());
    return absl::OkStatus();
  }));
  return rows;
}

void expectClose(const char *what, double found, double tolerance) {
  std::printf("%s: max abs %.2e\n", what, found);
  EXPECT_LT(found, tolerance);
}

TEST(DemoInt4, DecodeLogitsMatch) {
  expectClose("int4, token by token",
              worstLogits(demoModel(), {}, golden(), 3, 1), kInt15Tolerance);
}

TEST(DemoInt4, ExactPrefillLogitsMatch) {
  expectClose("int4, int15 prefill", worstLogits(demoModel(), {}, golden(), 3),
              kInt15Tolerance);
}

TEST(DemoInt4, Avx2LogitsMatch) {
  expectClose("int4, int15 prefill, avx2",
              worstLogits(demoModel(), {.avx2 = true, .decodeTokens = {1}},
                          golden(), 3),
              kInt15Tolerance);
}

TEST(DemoInt4, FastPrefillLogitsAreNear) {
  expectClose("int4, int8 prefill",
              worstLogits(demoModel(), {.form = "int8", .decodeTokens = {1}},
                          golden(), 3),
              kInt8Tolerance);
}

TEST(DemoInt4, GreedyTokensMatchWhereTheChoiceIsClear) {
  auto engine = demoModel().engine({}, 2, 1);
  for (int p = 0; p < 5; ++p) {
    const Ids wanted = golden().ids(named(p, "greedy"));
    const Rows margin = golden().rows(named(p, "greedy_margin"));
    const Rows logits = logitsOf(*engine, wanted);
    const size_t prompt = golden().ids(named(p, "input_ids")).size();
    for (size_t i = prompt - 1; i + 1 < wanted.size(); ++i) {
      if (margin.data[i] <= kClearMargin)
        continue;
      const float *row = logits.row(int64_t(i));
      EXPECT_EQ(std::max_element(row, row + kUsedVocab) - row, wanted[i + 1])
          << "prompt " << p << ", position " << i + 1;
    }
  }
}

TEST(DemoInt4, StatesOfTheFirstLayerMatch) {
  auto engine = demoModel().engine({});
  need(engine->feed(golden().ids("p0.input_ids")));
  expectClose("int4, conv state",
              maxDifference(need(engine->state("layers.0.conv")),
                            golden().rows("p0.layer0.conv").data),
              kFloatTolerance);
  expectClose("int4, recurrent state",
              maxDifference(need(engine->state("layers.0.recurrent")),
                            golden().rows("p0.layer0.recurrent").data),
              kFloatTolerance);
}

TEST(DemoInt4, MtpLogitsMatch) {
  const Rows wanted = golden().rows("p0.mtp1_logits");
  expectClose("int4, mtp",
              maxDifference(mtpLogits(demoModel(), golden(), wanted.rows).data,
                            wanted.data),
              kInt15Tolerance);
}

/// The same model before quantisation, against transformers in float32.
class DemoBf16 : public testing::Test {
protected:
  void SetUp() override {
    model = demoBf16Model();
    if (!model)
      GTEST_SKIP() << "needs the BF16 demo model in " << demoBf16Directory();
    file.emplace(demoBf16Directory() + "/golden.safetensors");
  }
  TestModel *model = nullptr;
  std::optional<GoldenFile> file;
};

TEST_F(DemoBf16, LogitsMatch) {
  expectClose("bf16 prefill", worstLogits(*model, {}, *file, 5),
              kFloatTolerance);
}

TEST_F(DemoBf16, StatesOfTheFirstLayerMatch) {
  auto engine = model->engine({});
  need(engine->feed(file->ids("p0.input_ids")));
  expectClose("bf16, recurrent state",
              maxDifference(need(engine->state("layers.0.recurrent")),
                            file->rows("p0.layer0.recurrent_states").data),
              kFloatTolerance);
}

TEST_F(DemoBf16, ConvolutionStateMatches) {
  auto engine = model->engine({});
  need(engine->feed(file->ids("p0.input_ids")));
  // The golden has the last 4 inputs as [C, 4], the engine 3 as [3][C].
  const Rows wanted = file->rows("p0.layer0.conv_states");
  std::vector<float> last;
  for (int64_t step = 1; step < 4; ++step)
    for (int64_t c = 0; c < wanted.rows; ++c)
      last.push_back(wanted.row(c)[step]);
  expectClose("bf16, conv state",
              maxDifference(need(engine->state("layers.0.conv")), last),
              kFloatTolerance);
}

TEST_F(DemoBf16, MtpLogitsMatch) {
  const Rows wanted = file->rows("p0.mtp1_logits");
  expectClose(
      "bf16, mtp",
      maxDifference(mtpLogits(*model, *file, wanted.rows).data, wanted.data),
      kFloatTolerance);
}

TEST_F(DemoBf16, GreedyTextMatches) {
  auto engine = model->engine({}, 2);
  const Ids prompt = file->ids("p0.input_ids");
  EXPECT_EQ(greedyText(*engine, prompt, 128, kUsedVocab),
            file->ids("p0.greedy"));
}

} // namespace
} // namespace lathe::e2e
