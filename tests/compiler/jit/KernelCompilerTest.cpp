#include "compiler/jit/KernelCompiler.h"

#include "compiler/cache/ObjectCache.h"
#include "tests/compiler/TempDirectory.h"
#include "tests/compiler/jit/Kernels.h"

#include <cmath>
#include <thread>

namespace lathe {
namespace {

namespace fs = std::filesystem;

std::unique_ptr<KernelCompiler> compilerFor(ObjectCache *cache,
                                            bool forceAvx2 = false) {
  auto compiler = KernelCompiler::create(targetOf(forceAvx2), cache, 2);
  EXPECT_TRUE(compiler.ok()) << compiler.status();
  return *std::move(compiler);
}

std::vector<KernelSource> someKernels(int count) {
  std::vector<KernelSource> sources;
  for (int i = 0; i < count; ++i)
    sources.push_back(siluKernel("silu" + std::to_string(i),
                                 (std::to_string(i) + ".0f").c_str()));
  return sources;
}

/// Every silu kernel of someKernels() adds its own bias.
void expectRight(const KernelCompiler::Kernels &kernels) {
  for (const auto &[name, kernel] : kernels) {
    std::vector<float> y = callOnRows(kernel, 2);
    for (size_t i = 0; i < y.size(); ++i) {
      double x = 0.37f * static_cast<float>(i) - 5.0f;
      double wanted = x / (1 + std::exp(-x)) + std::stod(name.substr(4));
      EXPECT_NEAR(y[i], wanted, 2e-6 * (1 + std::abs(wanted))) << name;
    }
  }
}

TEST(KernelCompilerTest, RunsOnEveryInstructionSetAlike) {
  std::vector<KernelSource> sources = someKernels(3);
  std::vector<float> results[2];
  for (bool forceAvx2 : {false, true}) {
    auto compiler = compilerFor(nullptr, forceAvx2);
    auto kernels = compiler->compile(sources);
    ASSERT_TRUE(kernels.ok()) << kernels.status();
    ASSERT_EQ(kernels->size(), 3u);
    expectRight(*kernels);
    results[forceAvx2] = callOnRows(kernels->at("silu1"), 3);
    EXPECT_EQ(compiler->stats().compiled, 3u);
    EXPECT_EQ(compiler->stats().cacheHits, 0u);
    EXPECT_GT(compiler->stats().milliseconds, 0);
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(KernelCompilerTest, TheSecondRunHitsTheCache) {
  TempDirectory temp;
  std::vector<KernelSource> sources = someKernels(4);
  for (bool warm : {false, true}) {
    auto cache = ObjectCache::open(temp.path());
    ASSERT_TRUE(cache.ok()) << cache.status();
    auto compiler = compilerFor(cache->get());
    auto kernels = compiler->compile(sources);
    ASSERT_TRUE(kernels.ok()) << kernels.status();
    expectRight(*kernels);
    EXPECT_EQ(compiler->stats().cacheHits, warm ? 4u : 0u);
    EXPECT_EQ(compiler->stats().compiled, warm ? 0u : 4u);
    EXPECT_EQ((*cache)->stats().stores, warm ? 0u : 4u);
  }
}

TEST(KernelCompilerTest, TargetsDoNotShareEntries) {
  TempDirectory temp;
  auto cache = ObjectCache::open(temp.path());
  ASSERT_TRUE(cache.ok()) << cache.status();
  if (targetOf(false) == targetOf(true))
    GTEST_SKIP() << "this CPU has no AVX-512";
  for (bool forceAvx2 : {false, true}) {
    auto compiler = compilerFor(cache->get(), forceAvx2);
    ASSERT_TRUE(compiler->compile(someKernels(1)).ok());
    EXPECT_EQ(compiler->stats().compiled, 1u);
  }
}

TEST(KernelCompilerTest, RebuildsACorruptEntry) {
  TempDirectory temp;
  auto cache = ObjectCache::open(temp.path());
  ASSERT_TRUE(cache.ok()) << cache.status();
  ASSERT_TRUE(compilerFor(cache->get())->compile(someKernels(2)).ok());
  fs::path file = temp.files().at(0);
  std::string bytes = readFile(file);
  std::string wrong = bytes;
  wrong[wrong.size() / 2] ^= 1;
  writeFile(file, wrong);

  auto compiler = compilerFor(cache->get());
  auto kernels = compiler->compile(someKernels(2));
  ASSERT_TRUE(kernels.ok()) << kernels.status();
  expectRight(*kernels);
  EXPECT_EQ(compiler->stats().compiled, 1u);
  EXPECT_EQ(compiler->stats().cacheHits, 1u);
  EXPECT_EQ(readFile(file), bytes);
}

TEST(KernelCompilerTest, AKernelThatCannotBeStoredStillRuns) {
  TempDirectory temp;
  auto cache = ObjectCache::open(temp.path() / "gone");
  ASSERT_TRUE(cache.ok()) << cache.status();
  fs::remove_all(temp.path() / "gone");
  auto compiler = compilerFor(cache->get());
  auto kernels = compiler->compile(someKernels(1));
  ASSERT_TRUE(kernels.ok()) << kernels.status();
  expectRight(*kernels);
  EXPECT_FALSE(compiler->stats().cacheError.ok());
}

TEST(KernelCompilerTest, ReportsTheFirstBadKernelByName) {
  std::vector<KernelSource> sources = someKernels(2);
  sources.push_back({"broken", "extern \"C\" void broken( {\n}\n"});
  sources.push_back({"alsoBroken", "?"});
  auto compiler = compilerFor(nullptr);
  auto kernels = compiler->compile(sources);
  ASSERT_FALSE(kernels.ok());
  std::string message = messageOf(kernels.status());
  EXPECT_NE(message.find("kernel broken: "), std::string::npos) << message;
  EXPECT_NE(message.find("broken.cpp:1:"), std::string::npos) << message;
}

TEST(KernelCompilerTest, RefusesAWrongOrRepeatedName) {
  auto compiler = compilerFor(nullptr);
  KernelSource renamed = siluKernel("one", "0.0f");
  renamed.name = "two";
  std::vector<KernelSource> sources = {renamed};
  EXPECT_FALSE(compiler->compile(sources).ok());
  sources = {siluKernel("one", "0.0f"), siluKernel("one", "1.0f")};
  EXPECT_FALSE(compiler->compile(sources).ok());
}

TEST(KernelCompilerTest, ConcurrentBatchesOfTheSameNames) {
  auto compiler = compilerFor(nullptr);
  std::vector<std::jthread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      auto kernels = compiler->compile(someKernels(2));
      ASSERT_TRUE(kernels.ok()) << kernels.status();
      expectRight(*kernels);
    });
}

TEST(KernelCompilerTest, AnEmptyBatchIsFine) {
  auto kernels = compilerFor(nullptr)->compile({});
  ASSERT_TRUE(kernels.ok());
  EXPECT_TRUE(kernels->empty());
}

TEST(KernelCompilerTest, ObjectsComeInOrderAndAgreeWithTheCache) {
  TempDirectory temp;
  auto cache = ObjectCache::open(temp.path());
  ASSERT_TRUE(cache.ok()) << cache.status();
  auto cold = compilerFor(cache->get())->compileObjects(someKernels(3));
  auto warm = compilerFor(cache->get())->compileObjects(someKernels(3));
  ASSERT_TRUE(cold.ok() && warm.ok());
  EXPECT_EQ(cold->size(), 3u);
  EXPECT_EQ(*cold, *warm);
}

} // namespace
} // namespace lathe
