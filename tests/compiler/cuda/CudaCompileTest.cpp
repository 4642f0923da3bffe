//===- CudaCompileTest.cpp - every CUDA kernel through NVRTC --------------===//
//
// That the texts compile for their architecture and that what the assembler
// gives them can be launched as they ask for. Needs NVRTC, but no GPU.
//
//===----------------------------------------------------------------------===//

#include "compiler/cache/ObjectCache.h"
#include "compiler/nvrtc/CudaCompiler.h"
#include "tests/compiler/cuda/CudaModels.h"
#include "tests/compiler/nvrtc/FindNvrtc.h"

#include "gtest/gtest.h"

namespace lathe::difftest {
namespace {

/// A shape of each architecture and kind of format, at its most tokens.
std::vector<Shape> compiledShapes() {
  std::vector<Shape> chosen;
  for (Shape &shape : cudaShapes())
    if (shape.name == "F32" || shape.name == "Int4AsymmetricTied" ||
        shape.name == "NvFp4E2m1" || shape.name.starts_with("Warpgroup")) {
      // Warpgroups are for prompts only.
      shape.decodeTokens = {};
      if (!shape.name.starts_with("Warpgroup"))
        shape.decodeTokens = {8};
      chosen.push_back(shape);
    }
  return chosen;
}

class CudaCompile : public testing::TestWithParam<Shape> {};

TEST_P(CudaCompile, KernelsCanBeLaunched) {
  auto nvrtc = findNvrtc();
  if (!nvrtc.ok())
    GTEST_SKIP() << messageOf(nvrtc.status());
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  auto module = lowerModel(context, GetParam());
  std::vector<EmittedKernel> kernels = emitForCuda(*module, GetParam().target);
  auto cache = need(ObjectCache::open(LATHE_KERNEL_CACHE));
  auto compiler = need(CudaCompiler::create(
      *nvrtc, need(parseCudaTarget(GetParam().target)), cache.get(), 2));
  std::vector<CudaSource> sources;
  for (const EmittedKernel &kernel : kernels)
    sources.push_back({kernel.name, kernel.text});
  auto images = need(compiler->compile(sources));
  for (size_t i = 0; i < kernels.size(); ++i)
    for (const EmittedStage &stage : kernels[i].stages) {
      const EntryResources *entry = images[i].find(stage.entry);
      ASSERT_NE(entry, nullptr) << stage.entry;
      Status fits = checkLaunch(compiler->target(), *entry, stage.threads,
                                stage.dynamicShared);
      EXPECT_TRUE(fits.ok()) << messageOf(fits);
      EXPECT_EQ(entry->spillBytes, 0) << stage.entry;
      EXPECT_EQ(images[i].log, "") << stage.entry;
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaCompile,
                         testing::ValuesIn(compiledShapes()),
                         [](const auto &info) { return info.param.name; });

} // namespace
} // namespace lathe::difftest
