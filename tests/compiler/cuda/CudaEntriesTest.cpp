//===- CudaEntriesTest.cpp - launches and the persistent step -------------===//
//
// Both entries of a decode step must give the same bits.
//
//===----------------------------------------------------------------------===//

#include "tests/compiler/cuda/CudaFixture.h"
#include "tests/compiler/cuda/CudaHarness.h"
#include "tests/compiler/cuda/CudaModels.h"

#include "gtest/gtest.h"

namespace lathe::difftest {
namespace {

/// Fewer and more than most have tiles; a split by two or four leaves one over.
constexpr int kBlocks = 5;

std::vector<Shape> stepShapes() {
  std::vector<Shape> chosen;
  for (Shape &shape : cudaShapes())
    if (shape.name == "F32" || shape.name == "Int4Group128" ||
        shape.name == "NvFp4" || shape.name == "SplitInFour") {
      shape.prefillTokens = 0;
      chosen.push_back(shape);
    }
  return chosen;
}

class CudaEntries : public WithCuda<Shape> {};

TEST_P(CudaEntries, GiveTheSameBits) {
  CudaHarness harness(GetParam(), *backend);
  for (int64_t tokens : GetParam().decodeTokens)
    EXPECT_EQ(harness.compareEntries(tokens, kBlocks), "")
        << tokens << " tokens";
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaEntries, testing::ValuesIn(stepShapes()),
                         [](const auto &info) { return info.param.name; });

} // namespace
} // namespace lathe::difftest
