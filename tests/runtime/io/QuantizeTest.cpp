#include "runtime/io/Quantize.h"

#include "runtime/base/Float.h"
#include "runtime/io/Checkpoint.h"
#include "runtime/io/Json.h"

#include "TestFiles.h"

#include <cmath>
#include <random>

namespace lathe {

static constexpr char kLayer[] = "model.language_model.layers.0.";

class Quantize : public testing::Test {
protected:
  Quantize() {
    source.write("config.json", R"({"model_type": "test"})");
    source.write("tokenizer.json", "tokens");
    source.write("LICENSE", "free");
    source.write("pytorch_model.bin", "pickle");
    for (const char *name :
         {"mlp.up_proj", "linear_attn.in_proj_a", "self_attn.q_proj"})
      add(std::string(kLayer) + name + ".weight", 40, 256);
    add("model.language_model.embed_tokens.weight", 48, 256);
    add("lm_head.weight", 48, 256);
    add("mtp.fc.weight", 16, 256);
    add("mtp.layers.0.mlp.up_proj.weight", 16, 256);
    add("model.visual.blocks.0.w.weight", 16, 256);
    add(std::string(kLayer) + "linear_attn.conv1d.weight", 16, 4);
  }

  void add(const std::string &name, int64_t rows, int64_t cols) {
    std::normal_distribution<float> normal(0.0f, 0.02f);
    std::vector<uint16_t> values(size_t(rows * cols));
    for (uint16_t &v : values)
      v = floatToBf16(normal(generator));
    std::vector<int64_t> shape{rows, cols};
    if (name.find("conv1d") != name.npos)
      shape = {rows, 1, cols};
    tensors[name] = tensorOf(DType::BF16, shape, values);
  }

  StatusOr<QuantizeSummary> run(const QuantizeOptions &options) {
    writeTensors(source / "model.safetensors", tensors);
    return quantizeCheckpoint(source.path, target(), options);
  }

  std::string target() const { return destination / "out"; }

  /// Squared error of the written module over the squared norm.
  double relativeError(const Checkpoint &written, const std::string &module,
                       const std::string &original) {
    const TestTensor &t = tensors[original];
    auto weight = written.readWeight(module, t.shape[0], t.shape[1]);
    EXPECT_TRUE(weight.ok()) << messageOf(weight.status());
    std::vector<float> row(size_t(t.shape[1]));
    double error = 0, norm = 0;
    for (int64_t r = 0; r < t.shape[0]; ++r) {
      weight->dequantizeRow(r, row.data());
      for (size_t c = 0; c < row.size(); ++c) {
        uint16_t bits;
        std::memcpy(&bits, t.bytes.data() + 2 * (size_t(r) * row.size() + c),
                    2);
        error += std::pow(double(bf16ToFloat(bits)) - row[c], 2);
        norm += std::pow(double(bf16ToFloat(bits)), 2);
      }
    }
    return error / norm;
  }

  TempDirectory source, destination;
  TestTensors tensors;
  std::mt19937 generator{3};
};

TEST_F(Quantize, Int4ReadsBackWithTheReportedError) {
  auto summary = run({.threads = 3});
  ASSERT_TRUE(summary.ok()) << messageOf(summary.status());
  auto written = Checkpoint::open(target());
  ASSERT_TRUE(written.ok()) << messageOf(written.status());
  double up = relativeError(*written, "layers.0.mlp.up_proj",
                            std::string(kLayer) + "mlp.up_proj.weight");
  double q = relativeError(*written, "layers.0.self_attn.q_proj",
                           std::string(kLayer) + "self_attn.q_proj.weight");
  EXPECT_NEAR((up + q) / 2, summary->meanRelativeSquaredError, 1e-6);
  EXPECT_LT(up, 0.012);
  auto desc = written->describe("layers.0.mlp.up_proj");
  EXPECT_EQ(desc->format, WeightFormat::Int4);
  EXPECT_EQ(desc->group, 128);
  EXPECT_FALSE(desc->asymmetric);
}

TEST_F(Quantize, NvFp4ReadsBackWithTheReportedError) {
  auto summary = run({.format = WeightFormat::NvFp4, .threads = 2});
  ASSERT_TRUE(summary.ok()) << messageOf(summary.status());
  auto written = Checkpoint::open(target());
  ASSERT_TRUE(written.ok()) << messageOf(written.status());
  EXPECT_EQ(written->quantization().method, QuantMethod::ModelOpt);
  double up = relativeError(*written, "layers.0.mlp.up_proj",
                            std::string(kLayer) + "mlp.up_proj.weight");
  double q = relativeError(*written, "layers.0.self_attn.q_proj",
                           std::string(kLayer) + "self_attn.q_proj.weight");
  EXPECT_NEAR((up + q) / 2, summary->meanRelativeSquaredError, 1e-6);
  EXPECT_TRUE(fileExists(target() + "/hf_quant_config.json"));
}

TEST_F(Quantize, KeepsTheSensitiveModules) {
  auto summary = run({});
  ASSERT_TRUE(summary.ok());
  EXPECT_EQ(summary->modulesQuantized, 2);
  EXPECT_EQ(summary->modulesKept, 5);
  auto written = Checkpoint::open(target());
  for (const char *module :
       {"layers.0.linear_attn.in_proj_a", "lm_head", "embed_tokens", "mtp.fc"})
    EXPECT_EQ(written->describe(module)->format, WeightFormat::BF16) << module;
}

TEST_F(Quantize, CopiesWhatItKeepsByteForByte) {
  ASSERT_TRUE(run({}).ok());
  auto file = SafetensorsFile::open(target() + "/model.safetensors");
  for (const char *name : {"model.visual.blocks.0.w.weight", "mtp.fc.weight"}) {
    const TensorInfo *info = file->header().find(name);
    ASSERT_NE(info, nullptr) << name;
    std::vector<uint8_t> bytes(info->bytes());
    ASSERT_TRUE(file->read(*info, 0, bytes).ok());
    EXPECT_EQ(bytes, tensors[name].bytes);
  }
}

TEST_F(Quantize, FlagsAddHeadEmbeddingsAndMtp) {
  auto summary = run({.lmHead = true, .embeddings = true, .mtp = true});
  ASSERT_TRUE(summary.ok());
  auto written = Checkpoint::open(target());
  for (const char *module :
       {"lm_head", "embed_tokens", "mtp.layers.0.mlp.up_proj"})
    EXPECT_EQ(written->describe(module)->format, WeightFormat::Int4) << module;
  EXPECT_EQ(written->describe("mtp.fc")->format, WeightFormat::BF16);
}

TEST_F(Quantize, TheHeadFlagMeansTheSharedTableWhenTied) {
  source.write("config.json", R"({"tie_word_embeddings": true})");
  tensors.erase("lm_head.weight");
  ASSERT_TRUE(run({.lmHead = true}).ok());
  EXPECT_EQ(Checkpoint::open(target())->describe("embed_tokens")->format,
            WeightFormat::Int4);
}

TEST_F(Quantize, ReportsModulesWhoseShapeDoesNotFit) {
  add(std::string(kLayer) + "mlp.odd.weight", 16, 192);
  add(std::string(kLayer) + "mlp.few.weight", 12, 256);
  auto summary = run({});
  ASSERT_TRUE(summary.ok());
  EXPECT_EQ(summary->keptForShape,
            (std::vector<std::string>{std::string(kLayer) + "mlp.few",
                                      std::string(kLayer) + "mlp.odd"}));
}

TEST_F(Quantize, CopiesTheCompanionFiles) {
  ASSERT_TRUE(run({}).ok());
  EXPECT_EQ(*readFile(target() + "/tokenizer.json", 100), "tokens");
  EXPECT_TRUE(fileExists(target() + "/LICENSE"));
  EXPECT_FALSE(fileExists(target() + "/pytorch_model.bin"));
}

TEST_F(Quantize, DescribesItselfAsAutoRoundDoes) {
  ASSERT_TRUE(run({.lmHead = true}).ok());
  auto document = JsonDocument::read(target() + "/config.json");
  auto section = document->root().get("quantization_config");
  ASSERT_TRUE(section.ok());
  EXPECT_EQ(*section->getString("packing_format"), "auto_round:auto_gptq");
  EXPECT_EQ(*section->getString("block_name_to_quantize"),
            "model.language_model.layers");
  auto extra = section->get("extra_config");
  EXPECT_EQ(*extra->get(std::string(kLayer) + "linear_attn.in_proj_a")
                 ->getInt("bits", 0, 99),
            16);
  EXPECT_EQ(*extra->get("lm_head")->getInt("bits", 0, 99), 4);
  EXPECT_EQ(*document->root().getString("model_type"), "test");
}

TEST_F(Quantize, SplitsBigResultsIntoShards) {
  ASSERT_TRUE(run({.maxShardBytes = 20000}).ok());
  EXPECT_TRUE(fileExists(target() + "/model.safetensors.index.json"));
  auto written = Checkpoint::open(target());
  ASSERT_TRUE(written.ok()) << messageOf(written.status());
  EXPECT_GT(written->tensors().files().size(), 1u);
}

TEST_F(Quantize, TheResultDoesNotDependOnThreads) {
  ASSERT_TRUE(run({.threads = 1}).ok());
  auto other =
      quantizeCheckpoint(source.path, destination / "other", {.threads = 4});
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(*readFile(target() + "/model.safetensors", 1 << 20),
            *readFile(destination / "other/model.safetensors", 1 << 20));
}

TEST_F(Quantize, RefusesNaNWeights) {
  std::string name = std::string(kLayer) + "mlp.up_proj.weight";
  uint16_t nan = 0x7fc0;
  std::memcpy(tensors[name].bytes.data() + 2 * (35 * 256 + 1), &nan, 2);
  EXPECT_TRUE(
      refused(run({.threads = 2}), name + ": NaN or infinity in row 35"));
  EXPECT_FALSE(fileExists(target() + "/config.json"));
  EXPECT_FALSE(fileExists(target() + "/model.safetensors"));
}

TEST_F(Quantize, RefusesAQuantizedSource) {
  ASSERT_TRUE(run({}).ok());
  EXPECT_TRUE(refused(quantizeCheckpoint(target(), destination / "again", {}),
                      "quantised already"));
}

TEST_F(Quantize, RefusesAModelWithNothingToQuantize) {
  tensors.clear();
  add("lm_head.weight", 48, 256);
  EXPECT_TRUE(refused(run({}), "found no linear"));
}

TEST_F(Quantize, RefusesADestinationInUse) {
  writeTensors(source / "model.safetensors", tensors);
  EXPECT_EQ(exitCode(quantizeCheckpoint(source.path, source.path, {}).status()),
            2);
}

TEST_F(Quantize, RefusesBadOptions) {
  for (const QuantizeOptions &options :
       {QuantizeOptions{.format = WeightFormat::BF16},
        QuantizeOptions{.group = 48}, QuantizeOptions{.threads = 0},
        QuantizeOptions{.format = WeightFormat::NvFp4, .group = 128}})
    EXPECT_EQ(exitCode(run(options).status()), 2);
}

TEST_F(Quantize, StopsWhenProgressSaysSo) {
  auto stop = [](const QuantizeProgress &) { return false; };
  EXPECT_EQ(exitCode(run({.progress = stop}).status()), 130);
}

TEST_F(Quantize, ProgressReachesTheTotal) {
  QuantizeProgress last;
  ASSERT_TRUE(run({.progress = [&](const QuantizeProgress &p) {
                last = p;
                return true;
              }}).ok());
  EXPECT_EQ(last.bytesRead, last.bytesTotal);
}

} // namespace lathe
