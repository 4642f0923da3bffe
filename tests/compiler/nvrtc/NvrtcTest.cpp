#include "compiler/nvrtc/Nvrtc.h"
#include "tests/compiler/TempDirectory.h"
#include "tests/compiler/nvrtc/NvrtcFixture.h"

#include <filesystem>

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr device::File kHeaders[] = {
    {"some/scale.cuh", "#define SCALE 3.0f\n"}};
constexpr const char *kScale = R"(
#include "some/scale.cuh"
extern "C" __global__ void scale(float *p) {
  __shared__ float tile[256];
  tile[threadIdx.x] = p[threadIdx.x];
  __syncthreads();
  p[threadIdx.x] = tile[threadIdx.x ^ 1] * SCALE + OFFSET;
}
extern "C" __global__ void nothing() {}
)";
const std::vector<std::string> kFlags = {"-DOFFSET=1.0f"};

TEST(NvrtcSearchTest, MissingLibraryListsWhatWasTried) {
  TempDirectory empty;
  auto nvrtc =
      Nvrtc::load({.candidates = {"/no/libnvrtc.so.13", empty.path().string()},
                   .searchSystem = false});
  ASSERT_FALSE(nvrtc.ok());
  EXPECT_EQ(exitCode(nvrtc.status()), 4);
  for (const std::string &text :
       {std::string("/no/libnvrtc.so.13 (does not exist)"),
        empty.path().string() + " (no libnvrtc in it)",
        std::string("infer compile")})
    EXPECT_TRUE(contains(nvrtc.status(), text)) << nvrtc.status();
}

TEST(NvrtcSearchTest, OtherFilesAreNotNvrtc) {
  TempDirectory directory;
  writeFile(directory.path() / "libnvrtc.so.13", "not a library");
  auto nvrtc = Nvrtc::load(
      {.candidates = {directory.path().string()}, .searchSystem = false});
  ASSERT_FALSE(nvrtc.ok());
  EXPECT_TRUE(contains(nvrtc.status(), "invalid ELF header") ||
              contains(nvrtc.status(), "file too short"))
      << nvrtc.status();
}

TEST_F(WithNvrtc, FindsItInAToolkitFolder) {
  TempDirectory toolkit;
  fs::create_directories(toolkit.path() / "lib64");
  fs::create_symlink(nvrtc->library(),
                     toolkit.path() / "lib64" / "libnvrtc.so.13");
  auto found = Nvrtc::load(
      {.candidates = {"", toolkit.path().string()}, .searchSystem = false});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ((*found)->version(), nvrtc->version());
  EXPECT_EQ((*found)->fingerprint(), nvrtc->fingerprint());
}

TEST_F(WithNvrtc, CompilesForEveryTargetItSupports) {
  for (const char *arch : {"sm_90", "sm_120f"}) {
    if (!nvrtc->supports(arch))
      continue;
    auto image = nvrtc->compile({"scale.cu", kScale}, arch, kHeaders, kFlags);
    ASSERT_TRUE(image.ok()) << image.status();
    EXPECT_TRUE(image->cubin.starts_with("\x7f"
                                         "ELF"));
    EXPECT_EQ(image->log, "");
    ASSERT_NE(image->find("scale"), nullptr);
    EXPECT_EQ(image->find("scale")->staticShared, 1024);
    EXPECT_GT(image->find("scale")->registers, 0);
    EXPECT_EQ(image->find("scale")->spillBytes, 0);
    ASSERT_NE(image->find("nothing"), nullptr);
    EXPECT_EQ(image->find("none"), nullptr);

    auto again = nvrtc->compile({"scale.cu", kScale}, arch, kHeaders, kFlags);
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(image->cubin, again->cubin);
  }
}

TEST_F(WithNvrtc, BadSourceGivesTheLog) {
  auto image = nvrtc->compile({"scale.cu", kScale}, "sm_90", kHeaders, {});
  ASSERT_FALSE(image.ok());
  EXPECT_EQ(exitCode(image.status()), 1);
  EXPECT_TRUE(contains(image.status(), "cannot compile scale.cu for sm_90: "
                                       "NVRTC_ERROR_COMPILATION"));
  EXPECT_TRUE(
      contains(image.status(), "scale.cu(7): error: identifier \"OFFSET\""))
      << image.status();
  auto noHeader = nvrtc->compile({"scale.cu", kScale}, "sm_90", {}, {});
  EXPECT_TRUE(contains(noHeader.status(), "some/scale.cuh"))
      << noHeader.status();
}

TEST_F(WithNvrtc, AssemblerErrorsAreInTheLog) {
  auto image = nvrtc->compile(
      {"wrong.cu", R"(extern "C" __global__ void f() { asm("nonsense;"); })"},
      "sm_90", {}, {});
  EXPECT_TRUE(contains(image.status(), "nonsense")) << image.status();
}

TEST_F(WithNvrtc, UnknownArchitectureIsAUsageError) {
  EXPECT_FALSE(nvrtc->supports("sm_75"));
  EXPECT_FALSE(nvrtc->supports("nonsense"));
  auto image = nvrtc->compile({"scale.cu", kScale}, "sm_91", kHeaders, {});
  EXPECT_EQ(exitCode(image.status()), 2);
  const std::vector<std::string> wrong = {"--nonsense"};
  auto option = nvrtc->compile({"scale.cu", kScale}, "sm_90", kHeaders, wrong);
  EXPECT_TRUE(contains(option.status(), "nonsense")) << option.status();
}

} // namespace
} // namespace lathe
