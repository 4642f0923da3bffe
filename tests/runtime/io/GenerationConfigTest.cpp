#include "runtime/io/GenerationConfig.h"

#include "TestFiles.h"

namespace lathe {

static StatusOr<GenerationConfig> read(std::string_view config,
                                       std::string_view generation) {
  TempDirectory dir;
  dir.write("config.json", config);
  if (!generation.empty())
    dir.write("generation_config.json", generation);
  return readGenerationConfig(dir.path);
}

TEST(GenerationConfig, UnitesStopIdsOfBothFiles) {
  auto config = read(R"({"eos_token_id":5,"text_config":{"eos_token_id":4}})",
                     R"({"eos_token_id":[9,4]})");
  ASSERT_TRUE(config.ok()) << messageOf(config.status());
  EXPECT_EQ(config->stopIds, (std::vector<int32_t>{4, 5, 9}));
}

TEST(GenerationConfig, ReadsSamplingDefaults) {
  auto config = read("{}", R"({"do_sample":true,"temperature":0.6,
                               "top_p":0.95,"top_k":20})");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->doSample, true);
  EXPECT_EQ(config->temperature, 0.6);
  EXPECT_EQ(config->topP, 0.95);
  EXPECT_EQ(config->topK, 20);
}

TEST(GenerationConfig, DoesWithoutTheFile) {
  auto config = read(R"({"eos_token_id":null})", "");
  ASSERT_TRUE(config.ok());
  EXPECT_TRUE(config->stopIds.empty());
  EXPECT_FALSE(config->temperature.has_value());
}

TEST(GenerationConfig, RefusesWrongTypes) {
  EXPECT_TRUE(refused(read("{}", R"({"eos_token_id":"x"})"),
                      "generation_config.json: eos_token_id: expected"));
  EXPECT_TRUE(refused(read("{}", R"({"eos_token_id":[1,-2]})"),
                      "eos_token_id[1]: expected"));
  EXPECT_TRUE(refused(read("{}", R"({"temperature":"hot"})"),
                      "temperature: expected a number"));
  EXPECT_TRUE(refused(read("[]", ""), "config.json: expected an object"));
}

TEST(GenerationConfig, RefusesValuesOutOfRange) {
  EXPECT_TRUE(refused(read("{}", R"({"top_p":1.5})"),
                      "top_p: expected a number from 0 to 1, found 1.5"));
  EXPECT_TRUE(refused(read("{}", R"({"temperature":-1})"), "temperature"));
  EXPECT_TRUE(refused(read("{}", R"({"top_k":-1})"), "top_k"));
}

} // namespace lathe
