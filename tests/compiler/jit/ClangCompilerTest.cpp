#include "compiler/jit/ClangCompiler.h"

#include "compiler/device/DeviceFiles.h"
#include "tests/compiler/jit/Kernels.h"

#include <thread>

namespace lathe {
namespace {

bool has(const std::string &text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST(CpuTargetTest, ForcedAvx2HasNoAvx512) {
  CpuTarget target = targetOf(true);
  EXPECT_EQ(target.name, "avx2");
  EXPECT_TRUE(has(target.features, "+avx2"));
  EXPECT_FALSE(has(target.features, "+avx512"));
  EXPECT_FALSE(has(target.features, "+avx10"));
}

TEST(ClangCompilerTest, BadSourceNamesTheLineAndShowsIt) {
  ClangCompiler compiler(targetOf(false));
  auto object = compiler.compile("bad", "int good;\nint wrong = nothing;\n");
  ASSERT_FALSE(object.ok());
  std::string message = messageOf(object.status());
  EXPECT_TRUE(has(message, "bad.cpp:2:13: error:")) << message;
  EXPECT_TRUE(has(message, "int wrong = nothing;")) << message;
  EXPECT_TRUE(has(message, "^")) << message;
  EXPECT_FALSE(has(message, "1 error generated")) << message;
}

TEST(ClangCompilerTest, ErrorsInAHeaderNameTheHeadersUser) {
  ClangCompiler compiler(targetOf(false));
  auto object = compiler.compile("bad", R"(
#include "compiler/device/cpu/prelude.h"
lathe::f32x16 f() { return lathe::silu("text"); }
)");
  ASSERT_FALSE(object.ok());
  std::string message = messageOf(object.status());
  EXPECT_TRUE(has(message, "compiler/device/cpu/prelude.h:")) << message;
  EXPECT_TRUE(has(message, "bad.cpp:3:")) << message;
}

TEST(ClangCompilerTest, SeesNoFileOfTheSystem) {
  ClangCompiler compiler(targetOf(false));
  for (const char *header : {"<stdio.h>", "<immintrin.h>",
                             "\"/usr/include/stdio.h\"", "\"missing.h\""})
    EXPECT_FALSE(compiler.compile("k", std::string("#include ") + header).ok())
        << header;
}

TEST(ClangCompilerTest, EveryDeviceHeaderCompilesAloneForEveryTarget) {
  for (bool forced : {false, true}) {
    ClangCompiler compiler(targetOf(forced));
    for (const device::File &file : device::cpuFiles()) {
      std::string text = "#include \"" + std::string(file.path) + "\"\n";
      auto object = compiler.compile("header", text);
      EXPECT_TRUE(object.ok()) << object.status();
    }
  }
}

TEST(ClangCompilerTest, VectorsUseTheTargetsRegistersOnly) {
  KernelSource source = siluKernel("silu", "1.0f");
  ClangCompiler avx2(targetOf(true));
  auto narrow = avx2.assembly(source.name, source.text);
  ASSERT_TRUE(narrow.ok()) << narrow.status();
  EXPECT_TRUE(has(*narrow, "%ymm"));
  EXPECT_FALSE(has(*narrow, "%zmm"));
  EXPECT_FALSE(has(*narrow, "%k1"));
  ClangCompiler best(targetOf(false));
  if (best.target().name != "avx512")
    GTEST_SKIP() << "this CPU has no AVX-512";
  auto wide = best.assembly(source.name, source.text);
  ASSERT_TRUE(wide.ok()) << wide.status();
  EXPECT_TRUE(has(*wide, "%zmm"));
}

TEST(ClangCompilerTest, TargetMacrosFollowTheTarget) {
  const char *text = R"(
#if defined(__AVX512F__) == EXPECT_NARROW || !defined(__FMA__)
#error wrong target
#endif
int object;
)";
  for (bool forced : {false, true}) {
    ClangCompiler compiler(targetOf(forced));
    bool narrow = compiler.target().name == "avx2";
    auto object = compiler.compile("k", std::string("#define EXPECT_NARROW ") +
                                            (narrow ? "1" : "0") + text);
    EXPECT_TRUE(object.ok()) << object.status();
  }
}

TEST(ClangCompilerTest, FusesWithinAnExpressionOnly) {
  ClangCompiler compiler(targetOf(true));
  auto fused = compiler.assembly(
      "k", "float f(float a, float b, float c) { return a * b + c; }");
  ASSERT_TRUE(fused.ok()) << fused.status();
  EXPECT_TRUE(has(*fused, "vfmadd")) << *fused;
  auto apart = compiler.assembly(
      "k",
      "float f(float a, float b, float c) { float t = a * b; return t + c; }");
  ASSERT_TRUE(apart.ok()) << apart.status();
  EXPECT_FALSE(has(*apart, "vfmadd")) << *apart;
}

TEST(ClangCompilerTest, ConcurrentCompilesGiveTheBytesOfASingleOne) {
  ClangCompiler compiler(targetOf(false));
  KernelSource source = siluKernel("silu", "0.5f");
  auto expected = compiler.compile(source.name, source.text);
  ASSERT_TRUE(expected.ok()) << expected.status();
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 3; ++i) {
        auto object = compiler.compile(source.name, source.text);
        EXPECT_TRUE(object.ok() && *object == *expected) << t;
        EXPECT_FALSE(compiler.compile("bad", "?").ok());
      }
    });
}

TEST(ClangCompilerTest, FingerprintTellsTargetsApart) {
  ClangCompiler wide(targetOf(false)), narrow(targetOf(true));
  EXPECT_EQ(narrow.fingerprint(), ClangCompiler(targetOf(true)).fingerprint());
  if (wide.target() != narrow.target())
    EXPECT_NE(wide.fingerprint(), narrow.fingerprint());
}

} // namespace
} // namespace lathe
