#include "compiler/cache/ObjectCache.h"

#include "tests/compiler/TempDirectory.h"

#include "gtest/gtest.h"

#include <chrono>
#include <thread>

namespace lathe {
namespace {

namespace fs = std::filesystem;

class ObjectCacheTest : public ::testing::Test {
protected:
  std::unique_ptr<ObjectCache>
  open(std::uint64_t cap = ObjectCache::kDefaultByteCap) {
    auto cache = ObjectCache::open(temp.path(), cap);
    EXPECT_TRUE(cache.ok()) << cache.status();
    return cache.ok() ? *std::move(cache) : nullptr;
  }

  TempDirectory temp;
  const CacheKey key = cacheKey({"compiler", "source"});
};

TEST(CacheKeyTest, PartsAndTheirBoundariesCount) {
  EXPECT_EQ(cacheKey({"a", "b"}), cacheKey({"a", "b"}));
  EXPECT_NE(cacheKey({"a", "b"}), cacheKey({"b", "a"}));
  EXPECT_NE(cacheKey({"ab", "c"}), cacheKey({"a", "bc"}));
  EXPECT_NE(cacheKey({"ab"}), cacheKey({"ab", ""}));
  EXPECT_EQ(cacheKey({"a"}).hex().size(), 32u);
}

TEST_F(ObjectCacheTest, FindsWhatWasStored) {
  std::string object("\x7f"
                     "ELF\0\1\2",
                     7);
  auto cache = open();
  EXPECT_FALSE(cache->find(key));
  ASSERT_TRUE(cache->store(key, object).ok());
  EXPECT_EQ(cache->find(key), object);
  EXPECT_EQ(open()->find(key), object);
  EXPECT_FALSE(cache->find(cacheKey({"other"})));
  CacheStats stats = cache->stats();
  EXPECT_EQ(stats.hits, 1u);
  EXPECT_EQ(stats.misses, 2u);
  EXPECT_EQ(stats.stores, 1u);
}

TEST_F(ObjectCacheTest, StoresReplaceAndLeaveNoTemporaryFile) {
  auto cache = open();
  ASSERT_TRUE(cache->store(key, "one").ok());
  ASSERT_TRUE(cache->store(key, "two").ok());
  EXPECT_EQ(cache->find(key), "two");
  EXPECT_EQ(temp.files().size(), 1u);
}

TEST_F(ObjectCacheTest, EveryTruncationIsAMiss) {
  auto cache = open();
  ASSERT_TRUE(cache->store(key, "an object").ok());
  fs::path file = temp.files().at(0);
  std::string bytes = readFile(file);
  for (size_t length = 0; length < bytes.size(); ++length) {
    writeFile(file, bytes.substr(0, length));
    EXPECT_FALSE(cache->find(key)) << length << " bytes";
  }
  writeFile(file, bytes + "x");
  EXPECT_FALSE(cache->find(key));
}

TEST_F(ObjectCacheTest, EveryFlippedByteIsAMiss) {
  auto cache = open();
  ASSERT_TRUE(cache->store(key, "an object").ok());
  fs::path file = temp.files().at(0);
  std::string bytes = readFile(file);
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string wrong = bytes;
    wrong[i] ^= 0x40;
    writeFile(file, wrong);
    EXPECT_FALSE(cache->find(key)) << "byte " << i;
  }
  ASSERT_TRUE(cache->store(key, "an object").ok());
  EXPECT_EQ(cache->find(key), "an object");
}

TEST_F(ObjectCacheTest, AnEntryUnderAnotherNameIsAMiss) {
  auto cache = open();
  ASSERT_TRUE(cache->store(key, "an object").ok());
  CacheKey other = cacheKey({"other"});
  fs::path file = temp.files().at(0);
  fs::copy_file(file, temp.path() / (other.hex() + ".obj"));
  EXPECT_FALSE(cache->find(other));
}

TEST_F(ObjectCacheTest, AnEntryThatOthersCanWriteOrALinkIsAMiss) {
  auto cache = open();
  ASSERT_TRUE(cache->store(key, "an object").ok());
  fs::path file = temp.files().at(0);
  fs::permissions(file, fs::perms::others_write, fs::perm_options::add);
  EXPECT_FALSE(cache->find(key));
  fs::permissions(file, fs::perms::others_write, fs::perm_options::remove);
  EXPECT_TRUE(cache->find(key));
  fs::path elsewhere = temp.path() / "elsewhere";
  fs::rename(file, elsewhere);
  fs::create_symlink(elsewhere, file);
  EXPECT_FALSE(cache->find(key));
}

TEST_F(ObjectCacheTest, CreatesItsDirectoryForTheOwnerOnly) {
  fs::path directory = temp.path() / "a" / "b";
  ASSERT_TRUE(ObjectCache::open(directory).ok());
  EXPECT_EQ(fs::status(directory).permissions(), fs::perms::owner_all);
  EXPECT_TRUE(ObjectCache::open(directory.string() + "/").ok());
}

TEST_F(ObjectCacheTest, RefusesADirectoryThatOthersCanWrite) {
  for (fs::perms who : {fs::perms::group_write, fs::perms::others_write}) {
    fs::permissions(temp.path(), fs::perms::owner_all | who);
    auto cache = ObjectCache::open(temp.path());
    ASSERT_FALSE(cache.ok());
    EXPECT_NE(messageOf(cache.status()).find("can be written by others"),
              std::string::npos);
  }
}

TEST_F(ObjectCacheTest, RefusesWhatIsNoDirectory) {
  writeFile(temp.path() / "file", "");
  EXPECT_FALSE(ObjectCache::open(temp.path() / "file").ok());
  EXPECT_FALSE(ObjectCache::open(temp.path() / "file" / "below").ok());
  EXPECT_FALSE(ObjectCache::open("").ok());
}

TEST_F(ObjectCacheTest, RemovesTheLeastRecentlyUsedAboveTheCap) {
  auto keyOf = [](int i) { return cacheKey({std::to_string(i)}); };
  auto fileOf = [&](int i) { return temp.path() / (keyOf(i).hex() + ".obj"); };
  auto cache = open(10'000);
  auto now = fs::file_time_type::clock::now();
  for (int i = 0; i < 9; ++i) {
    ASSERT_TRUE(cache->store(keyOf(i), std::string(960, 'x')).ok());
    fs::last_write_time(fileOf(i), now - std::chrono::hours(100 - i));
  }
  EXPECT_TRUE(cache->find(keyOf(0))); // now the most recently used
  ASSERT_TRUE(cache->store(keyOf(9), std::string(960, 'x')).ok());
  EXPECT_EQ(temp.files().size(), 10u);
  ASSERT_TRUE(cache->store(keyOf(10), std::string(960, 'x')).ok());
  EXPECT_EQ(temp.files().size(), 7u);
  EXPECT_TRUE(cache->find(keyOf(0)));
  EXPECT_FALSE(cache->find(keyOf(1)));
  EXPECT_FALSE(cache->find(keyOf(4)));
  EXPECT_TRUE(cache->find(keyOf(5)));
  EXPECT_TRUE(cache->find(keyOf(10)));
}

TEST_F(ObjectCacheTest, CleanupRemovesStaleTemporaryFilesOnly) {
  fs::path stale = temp.path() / "temp-1", fresh = temp.path() / "temp-2";
  writeFile(stale, "x");
  writeFile(fresh, "x");
  fs::last_write_time(stale,
                      fs::file_time_type::clock::now() - std::chrono::hours(2));
  ASSERT_TRUE(open()->store(key, "an object").ok());
  EXPECT_FALSE(fs::exists(stale));
  EXPECT_TRUE(fs::exists(fresh));
}

TEST_F(ObjectCacheTest, ConcurrentStoresAndFindsAgree) {
  auto cache = open();
  std::string object(10'000, 'x');
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 10; ++i) {
          EXPECT_TRUE(cache->store(key, object).ok());
          EXPECT_EQ(cache->find(key), object);
        }
      });
  }
  EXPECT_EQ(temp.files().size(), 1u);
}

} // namespace
} // namespace lathe
