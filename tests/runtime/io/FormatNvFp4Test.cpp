#include "runtime/io/Checkpoint.h"

#include "TestFiles.h"

#include <cmath>
#include <limits>

namespace lathe {

/// A module "layers.0.p" of 2 rows and 32 columns, which a test breaks in one
/// place.
class FormatNvFp4 : public testing::Test {
protected:
  FormatNvFp4() {
    tensors = {{"layers.0.p.weight",
                tensorOf(DType::U8, {2, 16}, std::vector<uint8_t>(32, 0x21))},
               {"layers.0.p.weight_scale",
                tensorOf(DType::F8E4M3, {2, 2}, std::vector<uint8_t>(4, 0x38))},
               {"layers.0.p.weight_scale_2", global(0.5f)}};
  }

  static TestTensor global(float value) {
    return tensorOf<float>(DType::F32, {}, {value});
  }

  StatusOr<HostWeight> read() {
    dir.write("config.json", "{}");
    dir.write("hf_quant_config.json",
              R"({"quantization":{"quant_algo":"NVFP4"}})");
    writeTensors(dir / "model.safetensors", tensors);
    auto checkpoint = Checkpoint::open(dir.path);
    return checkpoint.ok() ? checkpoint->readWeight("layers.0.p", 2, 32)
                           : StatusOr<HostWeight>(checkpoint.status());
  }

  TempDirectory dir;
  TestTensors tensors;
};

TEST_F(FormatNvFp4, ReadsTheEvenColumnFromTheLowNibble) {
  auto weight = read();
  ASSERT_TRUE(weight.ok()) << messageOf(weight.status());
  std::vector<float> row(32);
  weight->dequantizeRow(0, row.data());
  EXPECT_EQ(row[0], 0.25f);
  EXPECT_EQ(row[1], 0.5f);
}

TEST_F(FormatNvFp4, RefusesNaNBlockScales) {
  for (uint8_t nan : {0x7f, 0xff}) {
    tensors["layers.0.p.weight_scale"] =
        tensorOf<uint8_t>(DType::F8E4M3, {2, 2}, {0x38, 0x38, 0x38, nan});
    EXPECT_TRUE(refused(
        read(), "layers.0.p.weight_scale: NaN block scale in row 1, block 1"));
  }
}

TEST_F(FormatNvFp4, RefusesUnusableGlobalScales) {
  for (float bad : {0.0f, -1.0f, std::numeric_limits<float>::infinity(),
                    std::numeric_limits<float>::quiet_NaN()}) {
    tensors["layers.0.p.weight_scale_2"] = global(bad);
    EXPECT_TRUE(refused(read(), "layers.0.p.weight_scale_2: expected a "
                                "positive, finite global scale"))
        << bad;
  }
}

TEST_F(FormatNvFp4, RefusesADivisorWithoutAnInverse) {
  tensors["layers.0.p.weight_packed"] = tensors["layers.0.p.weight"];
  tensors.erase("layers.0.p.weight");
  tensors["layers.0.p.weight_global_scale"] =
      tensorOf<float>(DType::F32, {1}, {1e-45f});
  EXPECT_TRUE(refused(read(), "positive, finite global scale"));
}

TEST_F(FormatNvFp4, RefusesAMissingGlobalScale) {
  tensors.erase("layers.0.p.weight_scale_2");
  EXPECT_TRUE(refused(read(), "no tensor layers.0.p.weight_scale_2"));
}

TEST_F(FormatNvFp4, RefusesSeveralGlobalScales) {
  tensors["layers.0.p.weight_scale_2"] =
      tensorOf<float>(DType::F32, {2}, {1.0f, 1.0f});
  EXPECT_TRUE(refused(read(), "expected one F32 value, found F32 [2]"));
}

TEST_F(FormatNvFp4, RefusesBlockScalesOfAnotherShape) {
  tensors["layers.0.p.weight_scale"] =
      tensorOf(DType::F8E4M3, {2, 1}, std::vector<uint8_t>(2, 0x38));
  EXPECT_TRUE(refused(read(), "expected F8_E4M3 [2, 2], found F8_E4M3 [2, 1]"));
}

TEST_F(FormatNvFp4, RefusesMxFp4Scales) {
  tensors["layers.0.p.weight_scale"] =
      tensorOf(DType::U8, {2, 2}, std::vector<uint8_t>(4, 0x38));
  EXPECT_TRUE(refused(read(), "expected F8_E4M3 [2, 2], found U8 [2, 2]"));
}

TEST_F(FormatNvFp4, RefusesColumnsThatBlocksDoNotDivide) {
  tensors["layers.0.p.weight"] =
      tensorOf(DType::U8, {2, 12}, std::vector<uint8_t>(24));
  EXPECT_TRUE(refused(read(), "layers.0.p.weight: the block size 16 does not "
                              "divide its 12 bytes"));
}

TEST_F(FormatNvFp4, RefusesPreQuantScales) {
  tensors["layers.0.p.pre_quant_scale"] = byteTensor();
  EXPECT_TRUE(refused(read(), "NVFP4_AWQ is not supported"));
}

TEST_F(FormatNvFp4, RefusesInt4InCompressedTensors) {
  tensors["layers.0.p.weight_packed"] =
      tensorOf(DType::I32, {2, 4}, std::vector<uint32_t>(8));
  tensors["layers.0.p.weight_global_scale"] = global(1.0f);
  EXPECT_TRUE(refused(read(), "expected the codes as U8"));
}

} // namespace lathe
