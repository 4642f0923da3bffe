#include "runtime/io/Checkpoint.h"

#include "TestFiles.h"

namespace lathe {

/// A module "layers.0.p" of 8 rows and 16 columns in groups of 8, which a test
/// breaks in one place.
class FormatGptq : public testing::Test {
protected:
  FormatGptq() {
    tensors = {
        {"layers.0.p.qweight",
         tensorOf(DType::I32, {2, 8}, std::vector<uint32_t>(16, 0x76543210))},
        {"layers.0.p.qzeros",
         tensorOf(DType::I32, {2, 1}, std::vector<uint32_t>(2, 0x77777777))},
        {"layers.0.p.scales",
         tensorOf(DType::F16, {2, 8}, std::vector<uint16_t>(16, 0x3c00))}};
  }

  StatusOr<HostWeight> read() {
    dir.write("config.json", "{\"quantization_config\":" + quantization + "}");
    writeTensors(dir / "model.safetensors", tensors);
    auto checkpoint = Checkpoint::open(dir.path);
    return checkpoint.ok() ? checkpoint->readWeight("layers.0.p", 8, 16)
                           : StatusOr<HostWeight>(checkpoint.status());
  }

  void setGroup(int group, std::string_view more = "") {
    quantization = "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":" +
                   std::to_string(group) + std::string(more) + "}";
  }

  TempDirectory dir;
  TestTensors tensors;
  std::string quantization =
      R"({"quant_method":"gptq","bits":4,"group_size":8})";
};

TEST_F(FormatGptq, ReadsTheCodesLowNibbleFirst) {
  auto weight = read();
  ASSERT_TRUE(weight.ok()) << messageOf(weight.status());
  EXPECT_EQ(weight->data[0], 0x10);
  EXPECT_EQ(weight->data[3], 0x76);
  EXPECT_EQ(weight->desc.group, 8);
}

TEST_F(FormatGptq, GroupSizeMinusOneMeansOneGroup) {
  setGroup(-1);
  tensors["layers.0.p.qzeros"] =
      tensorOf<uint32_t>(DType::I32, {1, 1}, {0x77777777});
  tensors["layers.0.p.scales"] =
      tensorOf(DType::F16, {1, 8}, std::vector<uint16_t>(8, 0x3c00));
  auto weight = read();
  ASSERT_TRUE(weight.ok()) << messageOf(weight.status());
  EXPECT_EQ(weight->desc.group, 16);
}

TEST_F(FormatGptq, ZeroPointZeroBorrowsFromItsNeighbour) {
  tensors["layers.0.p.qzeros"] = tensorOf<uint32_t>(
      DType::I32, {2, 1}, {0x88888880u - 0x11111111u, 0x77777777});
  auto weight = read();
  ASSERT_TRUE(weight.ok());
  EXPECT_EQ(weight->zeros[0], 0);
  EXPECT_EQ(weight->zeros[2], 8);
}

TEST_F(FormatGptq, SymmetricWeightsNeedNoZeroPoints) {
  tensors.erase("layers.0.p.qzeros");
  EXPECT_TRUE(read().ok());
}

TEST_F(FormatGptq, RefusesAsymmetricWeightsWithoutZeroPoints) {
  tensors.erase("layers.0.p.qzeros");
  setGroup(8, ",\"sym\":false");
  EXPECT_TRUE(refused(read(), "no tensor layers.0.p.qzeros"));
}

TEST_F(FormatGptq, AcceptsATrivialGroupIndex) {
  std::vector<int32_t> index(16, 0);
  std::fill(index.begin() + 8, index.end(), 1);
  tensors["layers.0.p.g_idx"] = tensorOf(DType::I32, {16}, index);
  setGroup(8, ",\"desc_act\":true");
  EXPECT_TRUE(read().ok());
}

TEST_F(FormatGptq, RefusesDescAct) {
  tensors["layers.0.p.g_idx"] =
      tensorOf(DType::I32, {16}, std::vector<int32_t>(16, 1));
  EXPECT_TRUE(refused(read(), "layers.0.p.g_idx: desc_act (act-order) is not "
                              "supported"));
}

TEST_F(FormatGptq, RefusesDescActWithoutAGroupIndex) {
  setGroup(8, ",\"desc_act\":true");
  EXPECT_TRUE(refused(read(), "desc_act is set"));
}

TEST_F(FormatGptq, RefusesAGroupThatDoesNotDivideTheColumns) {
  setGroup(12);
  EXPECT_TRUE(refused(read(), "layers.0.p.qweight: the group size 12 does not "
                              "divide its 16 columns"));
}

TEST_F(FormatGptq, RefusesScalesOfAnotherShape) {
  setGroup(16);
  EXPECT_TRUE(refused(
      read(), "layers.0.p.scales: expected F16 [1, 8], found F16 [2, 8]"));
}

TEST_F(FormatGptq, RefusesCodesOfAnotherWidth) {
  // Eight-bit codes take twice the words; the scales give them away.
  tensors["layers.0.p.qweight"] =
      tensorOf(DType::I32, {4, 8}, std::vector<uint32_t>(32));
  EXPECT_TRUE(refused(read(), "layers.0.p.scales: expected F16 [4, 8]"));
}

TEST_F(FormatGptq, RefusesCodesOfAnotherType) {
  tensors["layers.0.p.qweight"] =
      tensorOf(DType::U32, {2, 8}, std::vector<uint32_t>(16));
  EXPECT_TRUE(refused(read(), "expected I32 [columns / 8, rows], found U32"));
}

TEST_F(FormatGptq, RefusesRowsThatAreNoMultipleOfEight) {
  tensors["layers.0.p.qweight"] =
      tensorOf(DType::I32, {2, 4}, std::vector<uint32_t>(8));
  EXPECT_TRUE(refused(read(), "expected a multiple of 8 rows, found 4"));
}

TEST_F(FormatGptq, RefusesZeroPointsOfAnotherShape) {
  tensors["layers.0.p.qzeros"] =
      tensorOf<uint32_t>(DType::I32, {1, 1}, {0x77777777});
  EXPECT_TRUE(refused(read(), "layers.0.p.qzeros: expected I32 [2, 1]"));
}

TEST_F(FormatGptq, RefusesNaNScales) {
  std::vector<uint16_t> scales(16, 0x3c00);
  scales[11] = 0x7e00;
  tensors["layers.0.p.scales"] = tensorOf(DType::F16, {2, 8}, scales);
  EXPECT_TRUE(
      refused(read(), "layers.0.p.scales: NaN scale in row 3, group 1"));
}

TEST_F(FormatGptq, RefusesInfiniteScales) {
  std::vector<uint16_t> scales(16, 0x3c00);
  scales[2] = 0xfc00;
  tensors["layers.0.p.scales"] = tensorOf(DType::F16, {2, 8}, scales);
  EXPECT_TRUE(refused(read(), "infinite scale in row 2, group 0"));
}

TEST_F(FormatGptq, ReadsBf16ScalesThatFitF16) {
  tensors["layers.0.p.scales"] =
      tensorOf(DType::BF16, {2, 8}, std::vector<uint16_t>(16, 0xbf80));
  auto weight = read();
  ASSERT_TRUE(weight.ok()) << messageOf(weight.status());
  EXPECT_EQ(weight->scales[0], 0xbc00);
}

TEST_F(FormatGptq, RefusesScalesThatDoNotFitF16) {
  tensors["layers.0.p.scales"] =
      tensorOf(DType::F32, {2, 8}, std::vector<float>(16, 1.0e-9f));
  EXPECT_TRUE(refused(read(), "does not fit F16"));
}

TEST_F(FormatGptq, RefusesInt4WithoutAQuantizationConfig) {
  quantization = "null";
  EXPECT_TRUE(refused(read(), "names no INT4 method"));
}

TEST_F(FormatGptq, RefusesMissingScales) {
  tensors.erase("layers.0.p.scales");
  EXPECT_TRUE(refused(read(), "no tensor layers.0.p.scales"));
}

} // namespace lathe
