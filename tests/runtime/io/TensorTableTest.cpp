#include "runtime/io/TensorTable.h"

#include "TestFiles.h"

namespace lathe {

static constexpr char kIndex[] = "model.safetensors.index.json";

static void writeIndex(const TempDirectory &dir, std::string_view weight,
                       std::string_view shard) {
  dir.write(kIndex, "{\"weight_map\":{\"" + std::string(weight) + "\":\"" +
                        std::string(shard) + "\"}}");
}

TEST(CanonicalName, DropsModelPrefixes) {
  EXPECT_EQ(canonicalName("model.language_model.layers.0.x"), "layers.0.x");
  EXPECT_EQ(canonicalName("language_model.model.layers.0.x"), "layers.0.x");
  EXPECT_EQ(canonicalName("model.norm.weight"), "norm.weight");
}

TEST(CanonicalName, KeepsHeadAndMtp) {
  EXPECT_EQ(canonicalName("lm_head.weight"), "lm_head.weight");
  EXPECT_EQ(canonicalName("mtp.fc.weight"), "mtp.fc.weight");
}

TEST(CanonicalName, SkipsTheVisionTower) {
  EXPECT_FALSE(canonicalName("model.visual.blocks.0.x").has_value());
  EXPECT_FALSE(canonicalName("visual.patch_embed.weight").has_value());
}

TEST(TensorTable, OpensShards) {
  TempDirectory dir;
  writeTensors(dir / "a.safetensors", {{"model.x", byteTensor()}});
  writeTensors(dir / "b.safetensors", {{"model.y", byteTensor()}});
  dir.write(kIndex, R"({"weight_map":{"model.y":"b.safetensors",
                        "model.x":"a.safetensors"}})");
  auto table = TensorTable::open(dir.path);
  ASSERT_TRUE(table.ok()) << messageOf(table.status());
  EXPECT_EQ(table->names(), (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(table->find("y")->file->name(), "b.safetensors");
}

TEST(TensorTable, RefusesADirectoryWithoutWeights) {
  TempDirectory dir;
  EXPECT_TRUE(
      refused(TensorTable::open(dir.path), "expected model.safetensors or"));
}

TEST(TensorTable, NamesAMissingShard) {
  TempDirectory dir;
  writeIndex(dir, "w", "gone.safetensors");
  EXPECT_TRUE(refused(TensorTable::open(dir.path),
                      "the shard gone.safetensors does not exist"));
}

TEST(TensorTable, RefusesShardsOutsideTheDirectory) {
  for (const char *name : {"../x.safetensors", "/etc/passwd", "a\\\\b", "..",
                           "sub/x.safetensors", "", "."}) {
    TempDirectory dir;
    writeIndex(dir, "w", name);
    EXPECT_TRUE(refused(TensorTable::open(dir.path), "weight_map.w: expected a "
                                                     "plain file name"))
        << name;
  }
}

TEST(TensorTable, RefusesAWeightThatItsShardLacks) {
  TempDirectory dir;
  writeTensors(dir / "a.safetensors", {{"x", byteTensor()}});
  writeIndex(dir, "y", "a.safetensors");
  EXPECT_TRUE(refused(TensorTable::open(dir.path),
                      "y: mapped to a.safetensors, which has no such tensor"));
}

TEST(TensorTable, RefusesATensorThatTheIndexLacks) {
  TempDirectory dir;
  writeTensors(dir / "a.safetensors",
               {{"x", byteTensor()}, {"y", byteTensor()}});
  writeIndex(dir, "x", "a.safetensors");
  EXPECT_TRUE(
      refused(TensorTable::open(dir.path), "a.safetensors: holds 2 tensors"));
}

TEST(TensorTable, RefusesTwoTensorsOfOneCanonicalName) {
  TempDirectory dir;
  writeTensors(
      dir / "model.safetensors",
      {{"model.x", byteTensor()}, {"model.language_model.x", byteTensor()}});
  EXPECT_TRUE(refused(TensorTable::open(dir.path), "the same weight as"));
}

TEST(TensorTable, NamesAMissingTensor) {
  TempDirectory dir;
  writeTensors(dir / "model.safetensors", {{"x", byteTensor()}});
  EXPECT_TRUE(refused(TensorTable::open(dir.path)->get("layers.0.w"),
                      "no tensor layers.0.w"));
}

} // namespace lathe
