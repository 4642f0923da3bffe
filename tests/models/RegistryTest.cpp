#include "models/Registry.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"

#include <gtest/gtest.h>

namespace lathe::models {
namespace {

constexpr const char *kConfig = R"({
  "model_type": "qwen3_5_text", "vocab_size": 64, "hidden_size": 32,
  "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
  "num_key_value_heads": 2, "head_dim": 16, "linear_num_key_heads": 1,
  "linear_num_value_heads": 2, "linear_key_head_dim": 16,
  "linear_value_head_dim": 16, "mtp_num_hidden_layers": 1,
  "rope_parameters": {"rope_theta": 10000.0, "partial_rotary_factor": 0.5}
})";

StatusOr<WeightDesc> bf16(std::string_view, int64_t rows, int64_t cols) {
  return WeightDesc{WeightFormat::BF16, rows, cols, 0, false};
}

StatusOr<Model> build(mlir::MLIRContext &context, std::string config,
                      bool mtp = true) {
  auto document = JsonDocument::parse(config, "config.json");
  if (!document.ok())
    return document.status();
  WeightCatalog catalog = bf16;
  return buildModel(&context, {document->root(), mtp, catalog});
}

std::string replaced(std::string from, std::string to) {
  std::string config = kConfig;
  config.replace(config.find(from), from.size(), to);
  return config;
}

TEST(Registry, BuildsVerifiableFunctions) {
  mlir::MLIRContext context;
  auto model = build(context, kConfig);
  ASSERT_TRUE(model.ok()) << messageOf(model.status());
  EXPECT_TRUE(mlir::succeeded(mlir::verify(*model->module)));
  for (const char *name : {"trunk", "head", "mtp"})
    EXPECT_TRUE(model->module->lookupSymbol(name)) << name;
}

TEST(Registry, NoMtpWithoutItsWeights) {
  mlir::MLIRContext context;
  auto model = build(context, kConfig, false);
  ASSERT_TRUE(model.ok());
  EXPECT_FALSE(model->module->lookupSymbol("mtp"));
}

TEST(Registry, TextConfigIsTheSameModel) {
  mlir::MLIRContext context;
  auto model = build(context, std::string(R"({"model_type": "qwen3_5",)") +
                                  "\"text_config\": " + kConfig + "}");
  ASSERT_TRUE(model.ok()) << messageOf(model.status());
  EXPECT_EQ(model->hidden, 32);
}

TEST(Registry, UnknownTypeListsTheSupportedOnes) {
  mlir::MLIRContext context;
  auto model = build(context, replaced("qwen3_5_text", "other"));
  EXPECT_EQ(exitCode(model.status()), 3);
  EXPECT_NE(messageOf(model.status()).find("qwen3_5, qwen3_5_text"),
            std::string::npos);
}

TEST(Registry, ScaledRopeIsRefused) {
  mlir::MLIRContext context;
  auto model =
      build(context, replaced("{\"rope_theta\"", "{\"rope_type\": \"yarn\", "
                                                 "\"rope_theta\""));
  EXPECT_NE(messageOf(model.status()).find("yarn"), std::string::npos);
}

TEST(Registry, HeadRatioMustBeWhole) {
  mlir::MLIRContext context;
  auto model = build(context, replaced("\"linear_num_value_heads\": 2",
                                       "\"linear_num_value_heads\": 0"));
  EXPECT_NE(messageOf(model.status()).find("linear_num_value_heads"),
            std::string::npos);
}

} // namespace
} // namespace lathe::models
