//===- CudaKernelTest.cpp - every CUDA kernel against its meaning ---------===//
//
// As KernelDifferentialTest.cpp for the CPU: small models of awkward shapes are
// lowered by the pipeline, and each of their kernels must compute what its body
// says.
//
//===----------------------------------------------------------------------===//

#include "tests/compiler/cuda/CudaFixture.h"
#include "tests/compiler/cuda/CudaHarness.h"
#include "tests/compiler/cuda/CudaModels.h"

#include "llvm/Support/raw_ostream.h"
#include "gtest/gtest.h"

namespace lathe::difftest {
namespace {

// In the units of Comparison; over several seeds, 5.6e-6, 4.6e-3, 5.1e-5 and
// 9.5e-4 were measured. Floats differ by the order of sums, and half rounds
// activations to 11 bits. Rope takes its frequencies as floats, which is seen
// far into a sequence; a cache in f16 may round a value the other way.
constexpr double kFloatTolerance = 1.5e-5;
constexpr double kHalfTolerance = 1.2e-2;
constexpr double kAttentionTolerance = 1.3e-4;
constexpr double kHalfKvTolerance = 2e-3;

std::vector<int64_t> tokenCountsOf(kernel::FuncOp func) {
  const int64_t tokens = func.getSchedule()->getTokens();
  if (!func.getSchedule()->getPrefill())
    return {tokens};
  std::vector<int64_t> counts;
  for (int64_t count : {1, 7, 64, 65, 130})
    if (count <= tokens)
      counts.push_back(count);
  return counts;
}

std::string textOf(kernel::FuncOp func) {
  std::string text;
  llvm::raw_string_ostream(text) << func;
  return text;
}

class CudaKernels : public WithCuda<Shape> {
protected:
  void SetUp() override {
    WithCuda::SetUp();
    if (backend)
      harness = std::make_unique<CudaHarness>(GetParam(), *backend);
  }
  std::unique_ptr<CudaHarness> harness;
};

double toleranceOf(kernel::FuncOp func) {
  if (func.getAnchor() == kernel::Anchor::Linear &&
      func.getSchedule()->getForm() == kernel::Form::Half)
    return kHalfTolerance;
  for (mlir::Type type : func.getArgumentTypes())
    if (auto kv = mlir::dyn_cast<graph::KvType>(type))
      return kv.getHalf() ? kHalfKvTolerance : kAttentionTolerance;
  return kFloatTolerance;
}

TEST_P(CudaKernels, ComputeTheirBodies) {
  std::map<double, double> worst; // by tolerance
  for (kernel::FuncOp func : harness->kernels())
    for (int64_t tokens : tokenCountsOf(func)) {
      Comparison result = harness->compare(func, tokens);
      EXPECT_EQ(result.problem, "") << textOf(func);
      const double tolerance = toleranceOf(func);
      worst[tolerance] = std::max(worst[tolerance], result.worst);
      EXPECT_LT(result.worst, tolerance) << tokens << " tokens of\n"
                                         << textOf(func);
    }
  for (auto [tolerance, found] : worst)
    std::printf("%s: tolerance %.0e, worst %.2e\n", GetParam().name.c_str(),
                tolerance, found);
}

TEST_P(CudaKernels, DecodeTokensAloneAsTogether) {
  auto ones = harness->decodeKernels(1);
  for (int64_t tokens : GetParam().decodeTokens) {
    auto many = harness->decodeKernels(tokens);
    ASSERT_EQ(many.size(), ones.size());
    for (size_t i = 0; i < many.size(); ++i)
      if (tokens > 1)
        EXPECT_EQ(harness->compareSteps(ones[i], many[i]), "")
            << textOf(many[i]);
  }
}

TEST_P(CudaKernels, DecodeAlikeOnAnyGrid) {
  for (int64_t tokens : GetParam().decodeTokens)
    for (kernel::FuncOp func : harness->decodeKernels(tokens))
      if (func.getAnchor() == kernel::Anchor::Linear)
        EXPECT_EQ(harness->compareGrids(func), "") << textOf(func);
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaKernels, testing::ValuesIn(cudaShapes()),
                         [](const auto &info) { return info.param.name; });

} // namespace
} // namespace lathe::difftest
