#include "compiler/jit/ObjectLoader.h"

#include "compiler/jit/ClangCompiler.h"
#include "tests/compiler/jit/Kernels.h"

#include <cstring>
#include <thread>

namespace lathe {
namespace {

class ObjectLoaderTest : public ::testing::Test {
protected:
  void SetUp() override {
    auto created = ObjectLoader::create();
    ASSERT_TRUE(created.ok()) << created.status();
    loader = *std::move(created);
  }

  ObjectLoader::ObjectId load(std::string_view text) {
    auto object = compiler.compile("test", text);
    EXPECT_TRUE(object.ok()) << object.status();
    auto id = loader->add(*object);
    EXPECT_TRUE(id.ok()) << id.status();
    return *id;
  }

  template <class Function>
  Function *find(ObjectLoader::ObjectId id, const char *name) {
    auto address = loader->lookup(id, name);
    EXPECT_TRUE(address.ok()) << address.status();
    return reinterpret_cast<Function *>(*address);
  }

  ClangCompiler compiler{targetOf(false)};
  std::unique_ptr<ObjectLoader> loader;
};

TEST_F(ObjectLoaderTest, ObjectsDoNotSeeEachOther) {
  auto one = load("extern \"C\" int f() { return 1; }");
  auto two = load("extern \"C\" int f() { return 2; }");
  EXPECT_EQ(find<int()>(one, "f")(), 1);
  EXPECT_EQ(find<int()>(two, "f")(), 2);
  auto user =
      load("extern \"C\" int f(); extern \"C\" int g() { return f(); }");
  EXPECT_FALSE(loader->lookup(user, "g").ok());
}

TEST_F(ObjectLoaderTest, ResolvesTheMemoryFunctions) {
  auto id = load(R"(
using size = decltype(sizeof 0);
extern "C" void *copy(char *a, const char *b, size n) {
  return __builtin_memcpy(a, b, n);
}
extern "C" void *move(char *a, const char *b, size n) {
  return __builtin_memmove(a, b, n);
}
extern "C" void *fill(char *a, int x, size n) {
  return __builtin_memset(a, x, n);
}
extern "C" int differ(const char *a, const char *b, size n) {
  return __builtin_memcmp(a, b, n) != 0;
}
)");
  char text[] = "abcdef", other[8] = {};
  using Copy = void *(char *, const char *, size_t);
  find<Copy>(id, "copy")(other, text, 7);
  EXPECT_STREQ(other, "abcdef");
  find<Copy>(id, "move")(other + 1, other, 5);
  EXPECT_STREQ(other, "aabcde");
  find<void *(char *, int, size_t)>(id, "fill")(other, 'x', 3);
  EXPECT_STREQ(other, "xxxcde");
  using Differ = int(const char *, const char *, size_t);
  EXPECT_EQ(find<Differ>(id, "differ")(text, text, 6), 0);
  EXPECT_EQ(find<Differ>(id, "differ")(text, other, 6), 1);
}

TEST_F(ObjectLoaderTest, NamesASymbolThatIsMissing) {
  auto id = load("extern \"C\" float sinf(float);"
                 "extern \"C\" float f(float x) { return sinf(x); }");
  auto address = loader->lookup(id, "f");
  ASSERT_FALSE(address.ok());
  EXPECT_NE(messageOf(address.status()).find("sinf"), std::string::npos)
      << address.status();
  auto absent = loader->lookup(load("int x;"), "f");
  ASSERT_FALSE(absent.ok());
  EXPECT_NE(messageOf(absent.status()).find("f"), std::string::npos);
  EXPECT_FALSE(loader->lookup(1000, "f").ok());
}

TEST_F(ObjectLoaderTest, ReadsConstantsThatAnotherObjectAlsoHas) {
  const char *text = R"(
static const float kTable[4] = {1, 2, 4, 8};
extern "C" float at(int i) { return kTable[i & 3]; })";
  auto one = load(text), two = load(text);
  EXPECT_EQ(find<float(int)>(one, "at")(3), 8.0f);
  EXPECT_EQ(find<float(int)>(two, "at")(2), 4.0f);
}

TEST_F(ObjectLoaderTest, RefusesWhatIsNoObject) {
  for (std::string bytes : {"", "not an object"}) {
    auto id = loader->add(bytes);
    EXPECT_FALSE(id.ok() && loader->lookup(*id, "f").ok());
  }
}

TEST_F(ObjectLoaderTest, ConcurrentLoadsAndLookups) {
  auto object =
      compiler.compile("k", "extern \"C\" int f(int x) { return x + 1; }");
  ASSERT_TRUE(object.ok());
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 8; ++i) {
        auto id = loader->add(*object);
        ASSERT_TRUE(id.ok());
        EXPECT_EQ(find<int(int)>(*id, "f")(i), i + 1);
      }
    });
}

} // namespace
} // namespace lathe
