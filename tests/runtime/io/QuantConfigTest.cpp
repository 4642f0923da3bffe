#include "runtime/io/QuantConfig.h"

#include "TestFiles.h"

namespace lathe {

static StatusOr<QuantConfig> parse(std::string_view text) {
  auto document = JsonDocument::parse(text, "config.json");
  return document.ok() ? parseQuantConfig(document->root())
                       : StatusOr<QuantConfig>(document.status());
}

TEST(QuantConfig, AutoRoundGptqPackingStoresZerosMinusOne) {
  auto config = parse(R"({"quant_method":"auto-round","bits":4,"sym":true,
      "group_size":128,"packing_format":"auto_round:auto_gptq"})");
  ASSERT_TRUE(config.ok()) << messageOf(config.status());
  EXPECT_EQ(config->method, QuantMethod::Gptq);
  EXPECT_EQ(config->group, 128);
  EXPECT_TRUE(config->zerosMinusOne);
}

TEST(QuantConfig, PlainAutoRoundPackingStoresZeros) {
  auto config = parse(R"({"quant_method":"intel/auto-round","bits":4,
      "group_size":64,"packing_format":"auto_round"})");
  ASSERT_TRUE(config.ok());
  EXPECT_FALSE(config->zerosMinusOne);
}

TEST(QuantConfig, OldAutoRoundNamesThePackingBackend) {
  auto config = parse(R"({"quant_method":"intel/auto-round","bits":4,
      "group_size":64,"backend":"auto_round:gptq:exllamav2"})");
  ASSERT_TRUE(config.ok());
  EXPECT_TRUE(config->zerosMinusOne);
}

TEST(QuantConfig, GptqV2StoresZeros) {
  auto config = parse(R"({"quant_method":"gptq","bits":4,"group_size":-1,
      "checkpoint_format":"gptq_v2","desc_act":true})");
  ASSERT_TRUE(config.ok());
  EXPECT_FALSE(config->zerosMinusOne);
  EXPECT_TRUE(config->permuted);
  EXPECT_EQ(config->group, -1);
}

TEST(QuantConfig, ReadsHfQuantConfig) {
  auto config = parse(R"({"quantization":{"quant_algo":"W4A16_NVFP4"}})");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->method, QuantMethod::ModelOpt);
}

TEST(QuantConfig, ReadsCompressedTensors) {
  auto config = parse(R"({"quant_method":"compressed-tensors",
                          "format":"nvfp4-pack-quantized"})");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->method, QuantMethod::CompressedTensors);
}

TEST(QuantConfig, RefusesOtherWidths) {
  EXPECT_TRUE(
      refused(parse(R"({"quant_method":"gptq","bits":8,"group_size":128})"),
              "8-bit INT is not supported; supported are BF16"));
}

TEST(QuantConfig, RefusesAGroupSizeOfZero) {
  EXPECT_TRUE(
      refused(parse(R"({"quant_method":"gptq","bits":4,"group_size":0})"),
              "group_size: expected a positive integer or -1, found 0"));
}

TEST(QuantConfig, RefusesAwqPacking) {
  EXPECT_TRUE(
      refused(parse(R"({"quant_method":"auto-round","bits":4,"group_size":128,
                "packing_format":"auto_round:auto_awq"})"),
              "packing_format \"auto_round:auto_awq\" is not supported"));
}

TEST(QuantConfig, RefusesOtherMethodsWithTheSupportedOnes) {
  for (const char *method : {"fp8", "awq", "bitsandbytes"})
    EXPECT_TRUE(
        refused(parse("{\"quant_method\":\"" + std::string(method) + "\"}"),
                "quant_method \"" + std::string(method) +
                    "\" is not supported; supported are BF16"));
}

TEST(QuantConfig, RefusesOtherModelOptAlgorithms) {
  EXPECT_TRUE(
      refused(parse(R"({"quant_method":"modelopt","quant_algo":"NVFP4_AWQ"})"),
              "quant_algo \"NVFP4_AWQ\" is not supported"));
}

TEST(QuantConfig, RefusesOtherCompressedTensorsFormats) {
  EXPECT_TRUE(refused(parse(R"({"quant_method":"compressed-tensors",
                                "format":"pack-quantized"})"),
                      "format \"pack-quantized\" is not supported"));
}

TEST(QuantConfig, RefusesWrongTypes) {
  EXPECT_TRUE(refused(parse(R"({"quant_method":4})"),
                      "quant_method: expected a string, found 4"));
  EXPECT_TRUE(
      refused(parse(R"({"quant_method":"gptq","bits":"4","group_size":128})"),
              "bits: expected an integer"));
}

TEST(QuantConfig, IsFoundInsideTextConfig) {
  auto document = JsonDocument::parse(
      R"({"text_config":{"quantization_config":{"a":1}}})", "config.json");
  auto found = findQuantConfig(document->root());
  ASSERT_TRUE(found.ok() && found->has_value());
  EXPECT_EQ((*found)->path(), "text_config.quantization_config");
}

} // namespace lathe
