//===- CudaFixture.h - tests that run CUDA kernels --------------*- C++ -*-===//

#ifndef LATHE_TESTS_COMPILER_CUDA_CUDAFIXTURE_H
#define LATHE_TESTS_COMPILER_CUDA_CUDAFIXTURE_H

#include "tests/compiler/cuda/CudaBackend.h"

#include "gtest/gtest.h"

namespace lathe::difftest {

/// Skips the test, with the reason, where this binary's backend is missing.
template <class Parameter>
class WithCuda : public testing::TestWithParam<Parameter> {
protected:
  void SetUp() override {
    StatusOr<CudaBackend *> found = theBackend(LATHE_KERNEL_CACHE);
    if (!found.ok())
      GTEST_SKIP() << messageOf(found.status());
    backend = *found;
  }

  CudaBackend *backend = nullptr;
};

} // namespace lathe::difftest

#endif // LATHE_TESTS_COMPILER_CUDA_CUDAFIXTURE_H
