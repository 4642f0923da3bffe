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

// In the units of Comparison.
constexpr double kFloatTolerance = 1e-5;
constexpr double kHalfTolerance = 1e-2;
constexpr double kHalfKvTolerance = 1e-3;

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
      {.name = "F16HalfKv",
       .hidden = 48,
       .intermediate = 112,
       .vocab = 66,
       .headDim = 16,
       .keyHeads = 1,
       .valueHeads = 3,
       .valueDim = 32,
       .format = WeightFormat::F16,
       .decodeTokens = {1, 2},
       .prefillForm = "half",
       .target = "sm_120f",
       .halfKv = true},
      {.name = "F32",
       .hidden = 64,
       .intermediate = 100,
       .vocab = 35,
       .heads = 4,
       .kvHeads = 2,
       .headDim = 48,
       .keyHeads = 1,
       .valueHeads = 2,
       .keyDim = 48,
       .format = WeightFormat::F32,
       .decodeTokens = {1, 3},
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
      {.name = "Int4Group32",
       .hidden = 128,
       .intermediate = 352,
       .vocab = 52,
       .heads = 6,
       .kvHeads = 2,
       .headDim = 16,
       .format = WeightFormat::Int4,
       .group = 32,
       .decodeTokens = {1, 5},
       .prefillForm = "split",
       .target = "sm_90"},
      {.name = "Int4AsymmetricTied",
       .hidden = 64,
       .intermediate = 192,
       .vocab = 77,
       .heads = 3,
       .headDim = 128,
       .keyHeads = 2,
       .valueHeads = 6,
       .format = WeightFormat::Int4,
       .group = 64,
       .asymmetric = true,
       .decodeTokens = {1, 8},
       .prefillForm = "split",
       .target = "sm_120f",
       .halfKv = true,
       .tied = true},
      {.name = "Int4Group96",
       .hidden = 96,
       .intermediate = 288,
       .vocab = 40,
       .heads = 3,
       .headDim = 96,
       .keyHeads = 2,
       .valueHeads = 6,
       .format = WeightFormat::Int4,
       .group = 96,
       .decodeTokens = {1, 6},
       .prefillForm = "half",
       .target = "sm_90"},
      {.name = "Int4Group16Asymmetric",
       .hidden = 80,
       .intermediate = 272,
       .vocab = 43,
       .heads = 2,
       .headDim = 80,
       .format = WeightFormat::Int4,
       .group = 16,
       .asymmetric = true,
       .decodeTokens = {1, 3},
       .prefillForm = "split",
       .target = "sm_90"},
      {.name = "NvFp4",
       .hidden = 80,
       .intermediate = 336,
       .vocab = 90,
       .headDim = 112,
       .keyHeads = 1,
       .valueHeads = 3,
       .keyDim = 32,
       .format = WeightFormat::NvFp4,
       .group = 16,
       .decodeTokens = {1, 3},
       .prefillForm = "split",
       .target = "sm_90",
       .tied = true},
      {.name = "NvFp4E2m1",
       .hidden = 144,
       .intermediate = 176,
       .vocab = 150,
       .heads = 8,
       .headDim = 32,
       .keyHeads = 1,
       .valueHeads = 1,
       .keyDim = 128,
       .valueDim = 128,
       .format = WeightFormat::NvFp4,
       .group = 16,
       .decodeTokens = {1, 8},
       .prefillForm = "half",
       .target = "sm_120f"},
      // Its last projection is split in four, and the last part is empty.
      {.name = "ManyColumns",
       .hidden = 48,
       .intermediate = 2100,
       .vocab = 20,
       .decodeTokens = {1, 7},
       .prefillForm = "split",
       .target = "sm_120f",
       .tied = true},
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

double toleranceOf(kernel::FuncOp func) {
  if (func.getAnchor() == kernel::Anchor::Linear &&
      func.getSchedule()->getForm() == kernel::Form::Half)
    return kHalfTolerance;
  for (mlir::Type type : func.getArgumentTypes())
    if (auto kv = mlir::dyn_cast<graph::KvType>(type))
      return kv.getHalf() ? kHalfKvTolerance : kFloatTolerance;
  return kFloatTolerance;
}

TEST_P(CudaKernels, ComputeTheirBodies) {
  std::map<double, double> worst; // by tolerance
  for (kernel::FuncOp func : harness.kernels())
    for (int64_t tokens : tokenCountsOf(func)) {
      Comparison result = harness.compare(func, tokens);
      EXPECT_EQ(result.problem, "") << textOf(func);
      const double tolerance = toleranceOf(func);
      worst[tolerance] = std::max(worst[tolerance], result.worst);
      EXPECT_LT(result.worst, tolerance) << tokens << " tokens of\n"
                                         << textOf(func);
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
