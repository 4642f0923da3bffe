//===- CudaKernelTest.cpp - every CUDA kernel against its meaning ---------===//
//
// As KernelDifferentialTest.cpp for the CPU: small models of awkward shapes are
// lowered by the pipeline, and each of their kernels must compute what its body
// says.
//
//===----------------------------------------------------------------------===//

#include "tests/compiler/cuda/CudaHarness.h"

#include "llvm/Support/raw_ostream.h"
#include "gtest/gtest.h"

namespace lathe::difftest {
namespace {

std::vector<Shape> shapes() {
  return {
      {.name = "Bf16",
       .hidden = 80,
       .intermediate = 208,
       .vocab = 101,
       .heads = 3,
       .decodeTokens = {1, 4},
       .prefillForm = "split",
       .target = "sm_90"},
      {.name = "Int4Group128",
       .hidden = 128,
       .intermediate = 384,
       .vocab = 130,
       .heads = 2,
       .headDim = 64,
       .keyHeads = 2,
       .valueHeads = 4,
       .keyDim = 32,
       .valueDim = 32,
       .format = WeightFormat::Int4,
       .group = 128,
       .decodeTokens = {1, 4},
       .prefillForm = "half",
       .target = "sm_120f"},
  };
}

std::vector<int64_t> tokenCountsOf(kernel::FuncOp func) {
  const int64_t tokens = func.getSchedule()->getTokens();
  if (!func.getSchedule()->getPrefill())
    return {tokens};
  std::vector<int64_t> counts;
  for (int64_t count : {1, 7, 64, 65})
    if (count <= tokens)
      counts.push_back(count);
  return counts;
}

std::string textOf(kernel::FuncOp func) {
  std::string text;
  llvm::raw_string_ostream(text) << func;
  return text;
}

class CudaKernels : public testing::TestWithParam<Shape> {
protected:
  CudaKernels() : harness(GetParam(), backend()) {}
  static CudaBackend &backend() {
    static auto only = emulatedBackend(LATHE_KERNEL_CACHE);
    return *only;
  }
  CudaHarness harness;
};

TEST_P(CudaKernels, ComputeTheirBodies) {
  for (kernel::FuncOp func : harness.kernels())
    for (int64_t tokens : tokenCountsOf(func)) {
      Comparison result = harness.compare(func, tokens);
      EXPECT_EQ(result.problem, "") << textOf(func);
      EXPECT_LT(result.worst, 1e-5) << tokens << " tokens of\n" << textOf(func);
    }
}

TEST_P(CudaKernels, DecodeTokensAloneAsTogether) {
  auto ones = harness.decodeKernels(1);
  for (int64_t tokens : GetParam().decodeTokens) {
    auto many = harness.decodeKernels(tokens);
    ASSERT_EQ(many.size(), ones.size());
    for (size_t i = 0; i < many.size(); ++i)
      if (tokens > 1)
        EXPECT_EQ(harness.compareSteps(ones[i], many[i]), "")
            << textOf(many[i]);
  }
}

TEST_P(CudaKernels, DecodeAlikeOnAnyGrid) {
  for (int64_t tokens : GetParam().decodeTokens)
    for (kernel::FuncOp func : harness.decodeKernels(tokens))
      if (func.getAnchor() == kernel::Anchor::Linear)
        EXPECT_EQ(harness.compareGrids(func), "") << textOf(func);
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaKernels, testing::ValuesIn(shapes()),
                         [](const auto &info) { return info.param.name; });

} // namespace
} // namespace lathe::difftest
