//===- Kernels.h - kernel sources for the compiler's tests ------*- C++ -*-===//

#ifndef LATHE_TESTS_COMPILER_JIT_KERNELS_H
#define LATHE_TESTS_COMPILER_JIT_KERNELS_H

#include "compiler/jit/CpuTarget.h"
#include "compiler/jit/KernelCompiler.h"

#include "gtest/gtest.h"

#include <string>
#include <vector>

namespace lathe {

inline CpuTarget targetOf(bool forceAvx2) {
  auto target = hostTarget(forceAvx2);
  EXPECT_TRUE(target.ok()) << target.status();
  return target.ok() ? *target : CpuTarget{};
}

/// A kernel `name`: args[1][i] = silu(args[0][i]) + `bias`, over a multiple of
/// LATHE_LANES floats.
inline KernelSource siluKernel(const std::string &name, const char *bias) {
  return {name, R"(#include "compiler/device/cpu/prelude.h"
using namespace lathe;
extern "C" void )" + name +
                    R"((void *const *args, const LatheContext *c) {
  const float *x = (const float *)args[0];
  float *y = (float *)args[1];
  for (int i = 0; i < c->tokens * LATHE_LANES; i += LATHE_LANES)
    store(y + i, silu(load(x + i)) + splat()" +
                    bias + R"());
}
)"};
}

/// Calls a kernel on `rows` rows of LATHE_LANES values each.
inline std::vector<float> callOnRows(LatheKernel kernel, int rows) {
  std::vector<float> x(rows * LATHE_LANES), y(x.size(), -1e30f);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = 0.37f * static_cast<float>(i) - 5.0f;
  void *args[] = {x.data(), y.data()};
  LatheContext context = {};
  context.threads = 1;
  context.tokens = rows;
  kernel(args, &context);
  return y;
}

} // namespace lathe

#endif // LATHE_TESTS_COMPILER_JIT_KERNELS_H
