//===- CudaFixture.h - tests over the fake driver ---------------*- C++ -*-===//

#ifndef LATHE_TESTS_RUNTIME_CUDA_CUDAFIXTURE_H
#define LATHE_TESTS_RUNTIME_CUDA_CUDAFIXTURE_H

#include "runtime/cuda/Context.h"
#include "tests/runtime/cuda/FakeDriver.h"

#include "gtest/gtest.h"

#include <dlfcn.h>

#include <initializer_list>
#include <memory>
#include <string>

namespace lathe::cuda {

/// Gives each test the fake driver with its defaults and demands that nothing
/// made from it is alive afterwards.
class CudaTest : public testing::Test {
protected:
  CudaTest() : library(::dlopen(LATHE_FAKE_CUDA, RTLD_NOW | RTLD_LOCAL)) {
    config = symbol<fake::Config *()>("latheFakeConfig")();
    state = symbol<fake::State *()>("latheFakeState")();
  }
  ~CudaTest() override {
    EXPECT_EQ(state->alive(), 0);
    EXPECT_EQ(state->usedBytes, 0u);
    symbol<void()>("latheFakeReset")();
    ::dlclose(library);
  }

  static DriverOptions options() { return {.libraries = {LATHE_FAKE_CUDA}}; }

  std::unique_ptr<Context> makeContext() {
    auto driver = Driver::load(options());
    EXPECT_TRUE(driver.ok()) << driver.status();
    auto context = Context::create(*driver, 0);
    EXPECT_TRUE(context.ok()) << context.status();
    return *std::move(context);
  }

  fake::Config *config;
  fake::State *state;

private:
  template <class Signature> Signature *symbol(const char *name) {
    return reinterpret_cast<Signature *>(::dlsym(library, name));
  }
  void *library;
};

/// A cubin as the fake driver reads it: `arch` is 90 for sm_90.
inline std::string fakeImage(int arch,
                             std::initializer_list<const char *> entries) {
  std::string image(64, '\0');
  image.replace(0, 5,
                "\x7f"
                "ELF\x02");
  image[0x12] = static_cast<char>(190);
  image[48] = static_cast<char>(arch);
  for (const char *entry : entries)
    image.append(entry).push_back('\0');
  image.push_back('\0');
  return image;
}

inline bool contains(const Status &status, std::string_view text) {
  return messageOf(status).find(text) != std::string::npos;
}

} // namespace lathe::cuda

#endif // LATHE_TESTS_RUNTIME_CUDA_CUDAFIXTURE_H
