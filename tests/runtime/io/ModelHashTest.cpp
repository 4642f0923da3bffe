#include "runtime/io/ModelHash.h"

#include "TestFiles.h"

#include <functional>

namespace lathe {
namespace {

constexpr size_t kBig = size_t(5) << 20; ///< more than the samples cover

/// A checkpoint of one large and one small file.
class ModelHashTest : public testing::Test {
protected:
  static constexpr char kLarge[] = "model-00001-of-00002.safetensors";
  static constexpr char kSmall[] = "model-00002-of-00002.safetensors";

  void SetUp() override {
    dir.write("config.json", "{}");
    dir.write("model.safetensors.index.json",
              R"({"weight_map": {"a": "model-00001-of-00002.safetensors",
                                 "b": "model-00002-of-00002.safetensors"}})");
    writeTensors(dir / kLarge, {{"a", bytesOf(kBig)}});
    writeTensors(dir / kSmall, {{"b", bytesOf(100)}});
  }

  static TestTensor bytesOf(size_t count) {
    return tensorOf(DType::U8, {int64_t(count)},
                    std::vector<uint8_t>(count, 7));
  }

  std::string hash() const {
    auto checkpoint = Checkpoint::open(dir.path);
    EXPECT_TRUE(checkpoint.ok()) << messageOf(checkpoint.status());
    auto found = modelHash(*checkpoint);
    EXPECT_TRUE(found.ok()) << messageOf(found.status());
    return *found;
  }

  /// Flips a bit `offset` bytes after the start, or before the end, of a file.
  void flip(const char *name, int64_t offset) const {
    std::string text = *readFile(dir / name, kBig * 2);
    text[size_t(offset < 0 ? int64_t(text.size()) + offset : offset)] ^= 1;
    dir.write(name, text);
  }

  TempDirectory dir;
};

TEST_F(ModelHashTest, IsTheSameInAnotherPlace) {
  std::string before = hash();
  EXPECT_EQ(before.size(), 32u);
  std::string moved = dir.path + "-moved";
  std::filesystem::rename(dir.path, moved);
  auto checkpoint = Checkpoint::open(moved);
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_EQ(*modelHash(*checkpoint), before);
  std::filesystem::rename(moved, dir.path);
}

TEST_F(ModelHashTest, NoticesWhatAModelIsMadeOf) {
  const std::string before = hash();
  std::string last = before;
  auto changed = [&] {
    std::string now = hash();
    bool differs = now != before && now != last;
    last = now;
    return differs;
  };
  dir.write("config.json", "{ }");
  EXPECT_TRUE(changed());
  dir.write("hf_quant_config.json",
            R"({"quantization": {"quant_algo": "NVFP4"}})");
  EXPECT_TRUE(changed());
  writeTensors(dir / kSmall, {{"b", bytesOf(101)}});
  EXPECT_TRUE(changed());
  flip(kSmall, -50);
  EXPECT_TRUE(changed());
  flip(kLarge, 200);
  EXPECT_TRUE(changed());
  flip(kLarge, -1);
  EXPECT_TRUE(changed());
  // The pieces in the middle are 64 KiB each, at most 205 KiB apart.
  for (int64_t offset = 2 << 20; offset < (2 << 20) + (205 << 10);
       offset += 32 << 10)
    flip(kLarge, offset);
  EXPECT_TRUE(changed());
}

TEST_F(ModelHashTest, MissesWhatLiesBetweenTheSamples) {
  const std::string before = hash();
  // The first piece follows the first MiB; then there is a gap.
  flip(kLarge, (1 << 20) + (128 << 10));
  EXPECT_EQ(hash(), before);
}

TEST(ModelHash, OfAConfig) {
  EXPECT_EQ(configHash("{}").size(), 32u);
  EXPECT_EQ(configHash("{}"), configHash("{}"));
  EXPECT_NE(configHash("{}"), configHash("{ }"));
}

} // namespace
} // namespace lathe
