#include "runtime/io/File.h"

#include "TestFiles.h"

namespace lathe {

TEST(File, ReadsFromAnOffset) {
  TempDirectory dir;
  dir.write("f", "hello world");
  auto file = File::open(dir / "f");
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->size(), 11u);
  EXPECT_EQ(file->name(), "f");
  std::vector<uint8_t> bytes(5);
  ASSERT_TRUE(file->readAt(6, bytes).ok());
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), "world");
}

TEST(File, RefusesToReadPastTheEnd) {
  TempDirectory dir;
  dir.write("f", "abc");
  auto file = File::open(dir / "f");
  std::vector<uint8_t> bytes(5);
  EXPECT_TRUE(refused(file->readAt(1, bytes),
                      "f: truncated: expected 5 bytes at offset 1, found 2"));
}

TEST(File, RefusesADirectory) {
  EXPECT_TRUE(refused(File::open("/tmp"), "expected a regular file"));
}

TEST(File, RefusesAFileOverTheLimit) {
  TempDirectory dir;
  dir.write("f", "abcdef");
  EXPECT_TRUE(refused(readFile(dir / "f", 5), "at most 5 bytes, found 6"));
}

TEST(AtomicFile, LeavesNothingWithoutCommit) {
  TempDirectory dir;
  {
    auto file = AtomicFile::create(dir / "f");
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->writeAt(0, std::vector<uint8_t>(3)).ok());
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path));
}

TEST(AtomicFile, ReplacesTheOldFile) {
  TempDirectory dir;
  dir.write("f", "old content");
  dir.write("f", "new");
  EXPECT_EQ(*readFile(dir / "f", 100), "new");
}

TEST(AtomicFile, RefusesAMissingDirectory) {
  EXPECT_EQ(exitCode(AtomicFile::create("/nonexistent/f").status()), 2);
}

} // namespace lathe
