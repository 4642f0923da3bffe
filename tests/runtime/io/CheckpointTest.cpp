#include "runtime/io/Checkpoint.h"

#include "runtime/io/WeightFormats.h"

#include "TestFiles.h"

namespace lathe {

/// A checkpoint written by tests/data/make_quant_fixtures.py.
class QuantFixture : public testing::TestWithParam<const char *> {
protected:
  std::string directory() const {
    return std::string(LATHE_TEST_DATA "/quant/") + GetParam();
  }
};

TEST_P(QuantFixture, DequantizesToTheExpectedFloats) {
  auto checkpoint = Checkpoint::open(directory());
  ASSERT_TRUE(checkpoint.ok()) << messageOf(checkpoint.status());
  auto expected = SafetensorsFile::open(directory() + "/expected.safetensors");
  ASSERT_TRUE(expected.ok());
  for (const TensorInfo &info : expected->header().tensors) {
    const int64_t rows = info.shape[0], cols = info.shape[1];
    auto weight = checkpoint->readWeight(info.name, rows, cols);
    ASSERT_TRUE(weight.ok()) << messageOf(weight.status());
    EXPECT_EQ(weight->desc, *checkpoint->describe(info.name));
    auto values = readFloats({&*expected, &info});
    std::vector<float> row(static_cast<size_t>(cols));
    for (int64_t r = 0; r < rows; ++r) {
      weight->dequantizeRow(r, row.data());
      for (int64_t c = 0; c < cols; ++c)
        ASSERT_EQ(row[size_t(c)], (*values)[size_t(r * cols + c)])
            << info.name << " row " << r << " column " << c;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, QuantFixture,
                         testing::Values("autoround_gptq", "autoround_plain",
                                         "gptq_v1", "gptq_v2", "modelopt",
                                         "compressed_tensors"),
                         [](const auto &info) { return info.param; });

static StatusOr<Checkpoint> fixture(const char *name) {
  return Checkpoint::open(std::string(LATHE_TEST_DATA "/quant/") + name);
}

TEST(Checkpoint, FindsSymmetricWeightsByTheirZeroPoints) {
  auto symmetric = fixture("autoround_gptq");
  auto asymmetric = fixture("autoround_plain");
  EXPECT_FALSE(symmetric->describe("layers.0.mlp.up_proj")->asymmetric);
  EXPECT_TRUE(asymmetric->describe("layers.0.mlp.up_proj")->asymmetric);
}

TEST(Checkpoint, TellsQuantizedFromDenseModulesByTheirTensors) {
  auto checkpoint = fixture("autoround_gptq");
  EXPECT_EQ(checkpoint->describe("layers.0.mlp.up_proj")->format,
            WeightFormat::Int4);
  EXPECT_EQ(checkpoint->describe("layers.0.mlp.gate_proj")->format,
            WeightFormat::BF16);
}

TEST(Checkpoint, KnowsItsModulesAndTensors) {
  auto checkpoint = fixture("autoround_gptq");
  EXPECT_TRUE(checkpoint->hasModule("layers.0.mlp.up_proj"));
  EXPECT_FALSE(checkpoint->hasModule("layers.1.mlp.up_proj"));
  EXPECT_TRUE(checkpoint->hasTensor("layers.0.mlp.up_proj.scales"));
  EXPECT_FALSE(checkpoint->hasTensor("layers.0.mlp.up_proj.weight"));
}

TEST(Checkpoint, RefusesAnotherShape) {
  auto checkpoint = fixture("autoround_gptq");
  EXPECT_TRUE(refused(
      checkpoint->readWeight("layers.0.mlp.up_proj", 160, 24),
      "model.safetensors: model.language_model.layers.0.mlp.up_proj.qweight: "
      "expected a weight of shape [160, 24], found [24, 160] (int4)"));
}

TEST(Checkpoint, RefusesAMissingModule) {
  EXPECT_TRUE(refused(fixture("modelopt")->describe("layers.7.x"),
                      "no weight for layers.7.x"));
}

TEST(Checkpoint, RefusesADirectoryWithoutConfig) {
  TempDirectory dir;
  EXPECT_TRUE(refused(Checkpoint::open(dir.path), "no config.json"));
}

TEST(Checkpoint, RefusesAnUnsupportedMethodOnOpening) {
  TempDirectory dir;
  dir.write("config.json", R"({"quantization_config":{"quant_method":"awq"}})");
  writeTensors(dir / "model.safetensors", {{"x", byteTensor()}});
  EXPECT_TRUE(refused(Checkpoint::open(dir.path), "quant_method \"awq\""));
}

TEST(Checkpoint, RefusesFp8Layers) {
  TempDirectory dir;
  dir.write("config.json", "{}");
  writeTensors(dir / "model.safetensors",
               {{"layers.0.q.weight",
                 tensorOf<uint8_t>(DType::F8E4M3, {1, 2}, {0, 0})}});
  EXPECT_TRUE(refused(Checkpoint::open(dir.path)->describe("layers.0.q"),
                      "layers.0.q.weight: the element type F8_E4M3 is not "
                      "supported here; supported are BF16"));
}

TEST(Checkpoint, ReadsSmallTensorsOfAnyFloatType) {
  TempDirectory dir;
  dir.write("config.json", "{}");
  writeTensors(
      dir / "model.safetensors",
      {{"model.a", tensorOf<float>(DType::F32, {2}, {1.5f, -2.0f})},
       {"model.b", tensorOf<uint16_t>(DType::BF16, {2}, {0x3f80, 0xc000})},
       {"model.c", tensorOf<uint16_t>(DType::F16, {1, 1, 2}, {0x3c00, 1})}});
  auto checkpoint = Checkpoint::open(dir.path);
  EXPECT_EQ(*checkpoint->readTensor("a", std::vector<int64_t>{2}),
            (std::vector<float>{1.5f, -2.0f}));
  EXPECT_EQ(*checkpoint->readTensor("b", std::vector<int64_t>{2}),
            (std::vector<float>{1.0f, -2.0f}));
  EXPECT_EQ(*checkpoint->readTensor("c", std::vector<int64_t>{1, 1, 2}),
            (std::vector<float>{1.0f, 0x1p-24f}));
  EXPECT_TRUE(refused(checkpoint->readTensor("a", std::vector<int64_t>{3}),
                      "a: expected F32 [3], found F32 [2]"));
}

TEST(Checkpoint, RefusesSmallTensorsOfOtherTypes) {
  TempDirectory dir;
  dir.write("config.json", "{}");
  writeTensors(dir / "model.safetensors", {{"x", byteTensor()}});
  EXPECT_TRUE(refused(
      Checkpoint::open(dir.path)->readTensor("x", std::vector<int64_t>{1}),
      "x: expected BF16, F16 or F32, found U8"));
}

TEST(Checkpoint, IdentityFollowsConfigAndHeaders) {
  auto write = [](const TempDirectory &dir, const char *config,
                  const char *name, uint8_t value) {
    dir.write("config.json", config);
    writeTensors(dir / "model.safetensors",
                 {{name, tensorOf<uint8_t>(DType::U8, {1}, {value})}});
    return Checkpoint::open(dir.path)->identity();
  };
  TempDirectory dir;
  uint64_t base = write(dir, "{}", "x", 1);
  EXPECT_EQ(write(dir, "{}", "x", 2), base);
  EXPECT_NE(write(dir, "{}", "y", 1), base);
  EXPECT_NE(write(dir, "{ }", "x", 1), base);
}

} // namespace lathe
