//===- CudaWeightsTest.cpp - weights packed for CUDA ----------------------===//
//
// pack.cuh and weights.cuh against each other and the canonical form.
//
//===----------------------------------------------------------------------===//

#include "tests/compiler/cuda/CudaFixture.h"
#include "tests/compiler/cuda/CudaWeightPacker.h"
#include "tests/compiler/driver/RandomValues.h"

#include <cmath>

namespace lathe::difftest {
namespace {

struct WeightCase {
  std::string name;
  WeightDesc desc;
  std::string target = "sm_90";
};

std::ostream &operator<<(std::ostream &stream, const WeightCase &weight) {
  return stream << weight.name;
}

std::vector<WeightCase> weightCases() {
  using enum WeightFormat;
  return {
      {"F32", {F32, 37, 100}},
      {"F16", {F16, 16, 133}},
      {"Bf16", {BF16, 33, 130}},
      {"Int4Group16", {Int4, 17, 272, 16}},
      {"Int4Group48", {Int4, 5, 96, 48}},
      {"Int4Group32Asymmetric", {Int4, 40, 352, 32, true}},
      {"Int4Group64", {Int4, 31, 64, 64}},
      {"Int4Group128Asymmetric", {Int4, 20, 640, 128, true}},
      {"NvFp4", {NvFp4, 23, 336, 16}},
      {"NvFp4E2m1", {NvFp4, 23, 336, 16}, "sm_120f"},
  };
}

/// How far a packed value may be from `value`.
double toleranceOf(WeightFormat format, double value) {
  switch (format) {
  case WeightFormat::F32: // two halves
    return std::fmax(std::fabs(value) * 0x1p-22, 0x1p-25);
  case WeightFormat::BF16:
    return std::fabs(value) < 0x1p-14 ? 0x1p-25 : 0;
  case WeightFormat::NvFp4: // the order of three factors
    return std::fabs(value) * 0x1p-23;
  default:
    return 0;
  }
}

class CudaWeights : public WithCuda<WeightCase> {
protected:
  void SetUp() override {
    WithCuda::SetUp();
    std::mt19937 generator(11);
    weight = randomWeight(GetParam().desc, generator);
    if (backend)
      packer = std::make_unique<CudaWeightPacker>(
          *backend, backend->architecture(GetParam().target));
  }
  HostWeight weight;
  std::unique_ptr<CudaWeightPacker> packer;
};

TEST_P(CudaWeights, AreWhatTheyWere) {
  const WeightDesc &desc = weight.desc;
  std::vector<float> found = packer->unpack(desc, packer->pack(weight));
  std::vector<float> wanted(size_t(desc.cols));
  for (int64_t row = 0; row < desc.rows; ++row) {
    weight.dequantizeRow(row, wanted.data());
    for (int64_t column = 0; column < desc.cols; ++column)
      ASSERT_NEAR(wanted[size_t(column)],
                  found[size_t(row * desc.cols + column)],
                  toleranceOf(desc.format, wanted[size_t(column)]))
          << "row " << row << ", column " << column;
  }
}

TEST_P(CudaWeights, LeaveNoByteUndefined) {
  GuardedMemory once = packer->pack(weight, 0),
                again = packer->pack(weight, 0x5a);
  EXPECT_EQ(std::memcmp(once.data(), again.data(), once.size()), 0);
}

INSTANTIATE_TEST_SUITE_P(Formats, CudaWeights, testing::ValuesIn(weightCases()),
                         [](const auto &info) { return info.param.name; });

} // namespace
} // namespace lathe::difftest
