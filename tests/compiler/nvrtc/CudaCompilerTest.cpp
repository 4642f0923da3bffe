#include "compiler/nvrtc/CudaCompiler.h"

#include "compiler/cache/ObjectCache.h"
#include "compiler/nvrtc/ImageCodec.h"
#include "tests/compiler/TempDirectory.h"
#include "tests/compiler/nvrtc/NvrtcFixture.h"

namespace lathe {
namespace {

CudaSource kernel(const std::string &name, const std::string &body) {
  return {name + ".cu", "extern \"C\" __global__ void " + name +
                            "(float *p) { " + body + " }"};
}

/// Keeps 64 floats alive: spills under --maxrregcount=24.
CudaSource spilling() {
  return kernel("spilling",
                "float v[64]; for (int i = 0; i < 64; ++i) v[i] = "
                "p[threadIdx.x * 64 + i]; p[0] = v[(int)p[3]];"
                "__syncthreads(); float s = 0; for (int i = 0; i < 64; ++i) "
                "{ s += v[i] * p[i]; p[i] = s; }");
}

class CudaCompilerTest : public WithNvrtc {
protected:
  std::unique_ptr<CudaCompiler> compiler(ObjectCache *cache,
                                         std::vector<std::string> options = {},
                                         const char *arch = "sm_90") {
    auto made = CudaCompiler::create(nvrtc, *parseCudaTarget(arch), cache,
                                     /*threads=*/2, std::move(options));
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }

  std::vector<CudaSource> sources = {kernel("one", "*p = 1;"),
                                     kernel("two", "*p = 2;"),
                                     kernel("three", "*p = 3;")};
};

TEST_F(CudaCompilerTest, CompilesOnceThenFindsInTheCache) {
  TempDirectory directory;
  auto cache = *ObjectCache::open(directory.path().string());
  auto first = compiler(cache.get());
  auto images = first->compile(sources);
  ASSERT_TRUE(images.ok()) << images.status();
  ASSERT_EQ(images->size(), 3u);
  EXPECT_NE((*images)[1].find("two"), nullptr);
  EXPECT_EQ(first->stats().compiled, 3u);
  EXPECT_EQ(first->stats().cacheHits, 0u);
  EXPECT_GT(first->stats().milliseconds, 0);
  EXPECT_TRUE(first->stats().cacheError.ok());

  auto second = compiler(cache.get());
  auto cached = second->compile(sources);
  ASSERT_TRUE(cached.ok()) << cached.status();
  EXPECT_EQ(second->stats().compiled, 0u);
  EXPECT_EQ(second->stats().cacheHits, 3u);
  for (size_t i = 0; i < images->size(); ++i) {
    EXPECT_EQ((*images)[i].cubin, (*cached)[i].cubin);
    EXPECT_EQ((*images)[i].resources, (*cached)[i].resources);
  }

  auto otherOptions = compiler(cache.get(), {"-lineinfo"});
  ASSERT_TRUE(otherOptions->compile(sources).ok());
  EXPECT_EQ(otherOptions->stats().compiled, 3u);
  auto otherTarget = compiler(cache.get(), {}, "sm_80");
  ASSERT_TRUE(otherTarget->compile(sources).ok());
  EXPECT_EQ(otherTarget->stats().compiled, 3u);
}

TEST_F(CudaCompilerTest, ReportsTheFirstFailure) {
  sources[1] = kernel("two", "*p = unknownName;");
  sources[2].text = "also wrong";
  auto images = compiler(nullptr)->compile(sources);
  ASSERT_FALSE(images.ok());
  EXPECT_TRUE(contains(images.status(), "two.cu")) << images.status();
  EXPECT_TRUE(contains(images.status(), "unknownName"));
}

TEST_F(CudaCompilerTest, CountsSpills) {
  auto tight = compiler(nullptr, {"--maxrregcount=24"});
  std::vector<CudaSource> one = {spilling()};
  auto images = tight->compile(one);
  ASSERT_TRUE(images.ok()) << images.status();
  EXPECT_GT(images->front().resources[0].spillBytes, 0);
  EXPECT_GT(images->front().resources[0].stackBytes, 0);
  EXPECT_EQ(tight->stats().spillingEntries, 1u);
  auto ample = compiler(nullptr);
  ASSERT_TRUE(ample->compile(one).ok());
  EXPECT_EQ(ample->stats().spillingEntries, 0u);
}

TEST_F(CudaCompilerTest, RejectsSourceWithoutKernel) {
  std::vector<CudaSource> empty = {{"empty.cu", "__device__ int x;"}};
  EXPECT_TRUE(contains(compiler(nullptr)->compile(empty).status(),
                       "empty.cu has no kernel"));
}

TEST(CheckLaunchTest, NamesTheLimitThatIsExceeded) {
  CudaTarget target = *parseCudaTarget("sm_120f");
  EntryResources entry{.name = "mix", .registers = 128, .staticShared = 1024};
  EXPECT_TRUE(checkLaunch(target, entry, 512, 100352).ok());
  Status shared = checkLaunch(target, entry, 512, 100353);
  EXPECT_TRUE(contains(shared, "mix needs 101377 bytes of shared memory per "
                               "block, sm_120f allows 101376"))
      << shared;
  EXPECT_TRUE(contains(checkLaunch(target, entry, 1024, 0),
                       "131072 registers per block"));
  EXPECT_TRUE(contains(checkLaunch(target, entry, 1025, 0), "1025 threads"));
  entry.registers = 256;
  EXPECT_TRUE(contains(checkLaunch(target, entry, 32, 0), "256 registers"));
  EXPECT_TRUE(
      checkLaunch(*parseCudaTarget("sm_90"), {.name = "f"}, 32, 232448).ok());
}

TEST(ImageCodecTest, RoundTripsAndRejectsCutBytes) {
  CompiledImage image;
  image.cubin = std::string("cubin\0bytes", 11);
  image.log = "a warning";
  image.resources = {{"first", 40, 8, 16, 1024}, {"second", 255, 0, 0, 0}};
  std::string bytes = encodeImage(image);
  auto decoded = decodeImage(bytes);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->cubin, image.cubin);
  EXPECT_EQ(decoded->log, image.log);
  EXPECT_EQ(decoded->resources, image.resources);

  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(decodeImage(std::string_view(bytes).substr(0, size))) << size;
  EXPECT_FALSE(decodeImage(bytes + "x"));
}

} // namespace
} // namespace lathe
