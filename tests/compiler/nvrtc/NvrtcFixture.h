//===- NvrtcFixture.h - tests that need NVRTC -------------------*- C++ -*-===//

#ifndef LATHE_TESTS_COMPILER_NVRTC_NVRTCFIXTURE_H
#define LATHE_TESTS_COMPILER_NVRTC_NVRTCFIXTURE_H

#include "tests/compiler/nvrtc/FindNvrtc.h"

#include "gtest/gtest.h"

#include <memory>
#include <string>

namespace lathe {

/// Skips the test, with the reason, where there is no NVRTC.
class WithNvrtc : public testing::Test {
protected:
  void SetUp() override {
    auto loaded = findNvrtc();
    if (!loaded.ok())
      GTEST_SKIP() << messageOf(loaded.status());
    nvrtc = *std::move(loaded);
  }

  std::shared_ptr<const Nvrtc> nvrtc;
};

inline bool contains(const Status &status, std::string_view text) {
  return messageOf(status).find(text) != std::string::npos;
}

} // namespace lathe

#endif // LATHE_TESTS_COMPILER_NVRTC_NVRTCFIXTURE_H
