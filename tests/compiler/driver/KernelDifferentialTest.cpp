//===- KernelDifferentialTest.cpp - every kernel against its meaning ------===//
//
// The meaning of a kernel.func is its body in the reference interpreter. Small
// models of awkward shapes are lowered by the pipeline; each of their kernels
// is compiled and must compute what its body says.
//
//===----------------------------------------------------------------------===//

#include "tests/compiler/driver/KernelHarness.h"

#include "llvm/Support/raw_ostream.h"
#include "gtest/gtest.h"

namespace lathe::difftest {
namespace {

// In the units of Comparison; measured were 1.7e-6, 1.2e-3 and 0.13. Floats
// differ by the order of sums. Integer forms round each group of activations to
// 15 or 8 bits of its largest magnitude; swiglu multiplies such an error by the
// other factor, and these weights are large.
constexpr double kFloatTolerance = 1e-5;
constexpr double kInt15Tolerance = 3e-3;
constexpr double kInt8Tolerance = 0.3;

std::vector<Shape> shapes() {
  return {
      {.name = "Bf16",
       .hidden = 80,
       .intermediate = 208,
       .vocab = 101,
       .heads = 3,
       .decodeTokens = {1, 8}},
      {.name = "F16",
       .hidden = 48,
       .intermediate = 112,
       .vocab = 66,
       .headDim = 16,
       .keyHeads = 1,
       .valueHeads = 3,
       .valueDim = 32,
       .format = WeightFormat::F16,
       .decodeTokens = {3}},
      {.name = "F32",
       .hidden = 64,
       .intermediate = 100,
       .vocab = 35,
       .heads = 4,
       .kvHeads = 2,
       .keyHeads = 1,
       .valueHeads = 2,
       .format = WeightFormat::F32,
       .decodeTokens = {1}},
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
       .decodeTokens = {1, 3, 8}},
      {.name = "Int4Group32",
       .hidden = 128,
       .intermediate = 352,
       .vocab = 52,
       .heads = 6,
       .kvHeads = 2,
       .headDim = 16,
       .format = WeightFormat::Int4,
       .group = 32,
       .decodeTokens = {1, 3}},
      {.name = "Int4Asymmetric",
       .hidden = 64,
       .intermediate = 192,
       .vocab = 77,
       .heads = 3,
       .keyHeads = 2,
       .valueHeads = 6,
       .format = WeightFormat::Int4,
       .group = 64,
       .asymmetric = true,
       .decodeTokens = {1, 8}},
      {.name = "NvFp4",
       .hidden = 80,
       .intermediate = 176,
       .vocab = 90,
       .headDim = 32,
       .keyHeads = 1,
       .valueHeads = 3,
       .keyDim = 32,
       .format = WeightFormat::NvFp4,
       .group = 16,
       .decodeTokens = {1, 3}},
      {.name = "Int4AsymmetricAvx2",
       .hidden = 64,
       .intermediate = 96,
       .vocab = 50,
       .format = WeightFormat::Int4,
       .group = 32,
       .asymmetric = true,
       .decodeTokens = {3},
       .avx2 = true},
      {.name = "NvFp4Avx2",
       .hidden = 48,
       .intermediate = 80,
       .vocab = 50,
       .format = WeightFormat::NvFp4,
       .group = 16,
       .decodeTokens = {1},
       .avx2 = true},
      {.name = "Int4Group48",
       .hidden = 96,
       .intermediate = 96,
       .vocab = 40,
       .format = WeightFormat::Int4,
       .group = 48,
       .decodeTokens = {1}},
      {.name = "Int4FastPrefill",
       .hidden = 128,
       .intermediate = 256,
       .vocab = 40,
       .format = WeightFormat::Int4,
       .group = 64,
       .decodeTokens = {},
       .prefillForm = "int8"},
  };
}

double toleranceOf(kernel::FuncOp func) {
  for (mlir::Type type : func.getArgumentTypes())
    if (auto weight = mlir::dyn_cast<graph::WeightType>(type))
      if (weight.getGroup() != 0)
        return func.getSchedule()->getForm() == kernel::Form::Int8
                   ? kInt8Tolerance
                   : kInt15Tolerance;
  return kFloatTolerance;
}

std::vector<int64_t> tokenCountsOf(kernel::FuncOp func) {
  const int64_t tokens = func.getSchedule()->getTokens();
  if (!func.getSchedule()->getPrefill())
    return {tokens};
  std::vector<int64_t> counts;
  for (int64_t count : {1, 5, 16, 63, 64, 65})
    if (count <= tokens)
      counts.push_back(count);
  return counts;
}

std::string textOf(kernel::FuncOp func) {
  std::string text;
  llvm::raw_string_ostream(text) << func;
  return text;
}

class KernelDifferential : public testing::TestWithParam<Shape> {};

TEST_P(KernelDifferential, EveryKernelComputesItsBody) {
  KernelHarness harness(GetParam());
  std::map<double, double> worst; // by tolerance
  for (kernel::FuncOp func : harness.kernels())
    for (int64_t tokens : tokenCountsOf(func)) {
      Comparison result = harness.compare(func, tokens);
      const double tolerance = toleranceOf(func);
      worst[tolerance] = std::max(worst[tolerance], result.worst);
      EXPECT_EQ(result.problem, "");
      EXPECT_LT(result.worst, tolerance) << tokens << " tokens of\n"
                                         << textOf(func);
    }
  for (auto [tolerance, found] : worst)
    std::printf("%s: tolerance %.0e, worst %.2e\n", GetParam().name.c_str(),
                tolerance, found);
}

INSTANTIATE_TEST_SUITE_P(Shapes, KernelDifferential,
                         testing::ValuesIn(shapes()),
                         [](const auto &info) { return info.param.name; });

//===----------------------------------------------------------------------===//
// What the back end cannot do
//===----------------------------------------------------------------------===//

void expectRefused(const Shape &shape, const char *why) {
  Status status = planStatus(shape);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(messageOf(status).find(why), std::string::npos)
      << messageOf(status);
}

TEST(Refusal, AttentionHeadsOfTwentyFour) {
  expectRefused({.headDim = 24}, "multiples of 16");
}

TEST(Refusal, DeltaHeadsOfTwentyFour) {
  expectRefused({.keyDim = 24}, "multiples of 16");
}

TEST(Refusal, TableRowsOfForty) {
  expectRefused({.hidden = 40}, "multiple of 16");
}

TEST(Refusal, GroupsOfEight) {
  expectRefused({.format = WeightFormat::Int4, .group = 8}, "multiple of 16");
}

} // namespace
} // namespace lathe::difftest
