//===- MixerTest.h - fixture and helpers of the mixer tests -----*- C++ -*-===//
//
// The fixture runs every test once per instruction-set variant. Buffers hand
// out float arrays that start as NaN, so that whatever reads what nobody wrote
// shows in the result.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_KERNELS_CPU_MIXERS_MIXERTEST_H
#define LATHE_TESTS_KERNELS_CPU_MIXERS_MIXERTEST_H

#include "tests/kernels/cpu/mixers/MixerKernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

namespace lathe::test {

using Floats = std::vector<float>;

inline Floats poison(size_t count) {
  return Floats(count, std::numeric_limits<float>::quiet_NaN());
}

class Random {
public:
  explicit Random(unsigned seed) : engine(seed) {}
  Floats normal(size_t count, float scale = 1.0f, float mean = 0.0f) {
    std::normal_distribution<float> draw(mean, scale);
    Floats v(count);
    for (float &x : v)
      x = draw(engine);
    return v;
  }

private:
  std::mt19937 engine;
};

/// Runs a kernel on a team, each thread with poisoned scratch of exactly
/// `localBytes` bytes; fails the test when a thread writes past its end.
inline void runTeam(LatheKernel kernel, const std::vector<void *> &args,
                    int threads, int tokens, int position, int capacity,
                    long long localBytes, int pending = 0) {
  LatheBarrier shared = {};
  auto work = [&](int thread) {
    constexpr size_t kGuard = 64;
    std::vector<char> memory(localBytes + kGuard + 64, (char)0xff);
    char *local = memory.data() + 64 - (size_t)memory.data() % 64;
    LatheContext ctx = {};
    ctx.thread = thread;
    ctx.threads = threads;
    ctx.tokens = tokens;
    ctx.position = position;
    ctx.capacity = capacity;
    ctx.pending = pending;
    ctx.local = local;
    ctx.barrier = &shared;
    kernel(args.data(), &ctx);
    char *end = local + localBytes;
    for (; end < memory.data() + memory.size(); ++end)
      ASSERT_EQ(*end, (char)0xff) << "scratch overrun";
  };
  std::vector<std::thread> team;
  for (int i = 1; i < threads; ++i)
    team.emplace_back(work, i);
  work(0);
  for (std::thread &t : team)
    t.join();
}

/// Largest |got - want| over the largest |want|; infinite if anything is NaN.
template <class T>
double relativeError(const Floats &got, const std::vector<T> &want) {
  EXPECT_EQ(got.size(), want.size());
  double worst = 0, scale = 1e-30;
  for (size_t i = 0; i < want.size(); ++i) {
    double diff = std::fabs((double)got[i] - (double)want[i]);
    if (!(diff <= std::numeric_limits<double>::max()))
      return std::numeric_limits<double>::infinity();
    worst = std::max(worst, diff);
    scale = std::max(scale, std::fabs((double)want[i]));
  }
  return worst / scale;
}

inline bool sameBits(const Floats &a, const Floats &b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class MixerTest : public testing::TestWithParam<const MixerKernels *> {
protected:
  void SetUp() override {
    bool wide = GetParam() == &kMixersAvx512;
    bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (wide)
      has = has && __builtin_cpu_supports("avx512f") &&
            __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512dq");
    if (!has)
      GTEST_SKIP() << "this CPU lacks " << (wide ? "AVX-512" : "AVX2 or FMA");
  }
};

#define LATHE_INSTANTIATE_MIXER_TEST(suite)                                    \
  INSTANTIATE_TEST_SUITE_P(                                                    \
      Cpu, suite, testing::Values(&kMixersAvx2, &kMixersAvx512),               \
      [](const auto &info) { return std::string(info.param->name + 7); })

} // namespace lathe::test

#endif // LATHE_TESTS_KERNELS_CPU_MIXERS_MIXERTEST_H
