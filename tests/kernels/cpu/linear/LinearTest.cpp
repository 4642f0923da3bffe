//===- LinearTest.cpp - CPU linear kernels against a reference --*- C++ -*-===//
//
// The reference is naive and in double precision. Tolerances follow from the
// rounding of the activations: quantised to a step of max/limit per group, the
// errors are independent and uniform, so an output's error has a known
// standard deviation. Outputs and scratch are filled with NaN bytes first.
//
//===----------------------------------------------------------------------===//

#include "tests/kernels/cpu/linear/LinearKernels.h"

#include "runtime/base/Float.h"
#include "runtime/memory/PackCpu.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace lathe;

constexpr int kGuard = 64;

int stride(int width) { return (width + 15) / 16 * 16; }

/// 64-byte aligned bytes, poisoned, with a guard behind them.
class Buffer {
public:
  explicit Buffer(int64_t bytes)
      : size(bytes), data(static_cast<uint8_t *>(std::aligned_alloc(
                              64, size_t(bytes + 2 * kGuard + 63) / 64 * 64)),
                          std::free) {
    std::memset(data.get(), 0xff, size_t(size + kGuard));
  }
  uint8_t *bytes() const { return data.get(); }
  float *floats() const { return reinterpret_cast<float *>(data.get()); }
  bool guardIntact() const {
    for (int i = 0; i < kGuard; ++i)
      if (data.get()[size + i] != 0xff)
        return false;
    return true;
  }

private:
  int64_t size;
  std::unique_ptr<uint8_t, void (*)(void *)> data;
};

WeightFormat formatOf(TestWeight w) {
  switch (w) {
  case TestWeight::F32:
    return WeightFormat::F32;
  case TestWeight::F16:
    return WeightFormat::F16;
  case TestWeight::Bf16:
    return WeightFormat::BF16;
  case TestWeight::Int4:
    return WeightFormat::Int4;
  case TestWeight::NvFp4:
    return WeightFormat::NvFp4;
  }
  return WeightFormat::F32;
}

void setFloats(HostWeight &w, std::mt19937 &rng) {
  std::normal_distribution<float> normal;
  const size_t count = size_t(w.desc.rows * w.desc.cols);
  w.data.resize(size_t(w.desc.byteSize()));
  for (size_t i = 0; i < count; ++i) {
    float f = normal(rng);
    uint16_t h =
        w.desc.format == WeightFormat::F16 ? floatToF16(f) : floatToBf16(f);
    if (w.desc.format == WeightFormat::F32)
      std::memcpy(&w.data[4 * i], &f, 4);
    else
      std::memcpy(&w.data[2 * i], &h, 2);
  }
}

HostWeight randomWeight(WeightDesc desc, std::mt19937 &rng) {
  HostWeight w;
  w.desc = desc;
  if (desc.format != WeightFormat::Int4 && desc.format != WeightFormat::NvFp4) {
    setFloats(w, rng);
    return w;
  }
  w.data.resize(size_t(desc.rows * desc.cols / 2));
  for (uint8_t &b : w.data)
    b = uint8_t(rng());
  const size_t groups = size_t(desc.rows * desc.cols / desc.group);
  std::normal_distribution<float> normal;
  for (size_t i = 0; i < groups; ++i) {
    if (desc.format == WeightFormat::NvFp4) {
      // Any finite byte, subnormals and the sign included.
      uint8_t e = uint8_t(rng());
      w.blockScales.push_back((e & 0x7f) == 0x7f ? uint8_t(0x38) : e);
      continue;
    }
    w.scales.push_back(floatToF16(normal(rng) * 0.1f));
    if (desc.asymmetric)
      w.zeros.push_back(uint8_t(rng() % 17));
  }
  w.globalScale = 0.0123f;
  return w;
}

Buffer pack(const HostWeight &w) {
  EXPECT_TRUE(checkPackable(w.desc).ok());
  Buffer packed(packedBytes(w.desc));
  // Two ranges, as two threads would.
  const int64_t tiles = tileCount(w.desc), half = tiles / 2;
  packRows(w, half, tiles, packed.bytes());
  packRows(w, 0, half, packed.bytes());
  EXPECT_TRUE(packed.guardIntact());
  return packed;
}

/// Runs a kernel on `threads` threads with poisoned scratch.
void launch(const LinearKernel &k, const std::vector<void *> &args, int tokens,
            int threads, int position = 0) {
  Buffer shared(k.sharedBytes);
  std::vector<Buffer> locals;
  for (int i = 0; i < threads; ++i)
    locals.emplace_back(k.localBytes);
  LatheBarrier barrier = {};
  std::vector<std::thread> team;
  for (int i = 0; i < threads; ++i)
    team.emplace_back([&, i] {
      LatheContext ctx = {};
      ctx.thread = i;
      ctx.threads = threads;
      ctx.tokens = tokens;
      ctx.position = position;
      ctx.shared = shared.bytes();
      ctx.local = locals[size_t(i)].bytes();
      ctx.barrier = &barrier;
      k.run(args.data(), &ctx);
    });
  for (std::thread &t : team)
    t.join();
  EXPECT_TRUE(shared.guardIntact());
  for (Buffer &b : locals)
    EXPECT_TRUE(b.guardIntact());
}

/// One case: operands of a kernel and its expected results.
struct Case {
  Case(const LinearKernel &kernel, int tokens, unsigned seed)
      : kernel(kernel), tokens(tokens), rng(seed),
        x(int64_t(tokens) * stride(kernel.columns) * 4),
        norm(int64_t(stride(kernel.columns)) * 4) {
    WeightDesc desc = {formatOf(kernel.format), kernel.rows, kernel.columns,
                       kernel.group, kernel.asymmetric};
    weights.push_back(randomWeight(desc, rng));
    if (kernel.kind == TestKind::Mixed)
      desc = {WeightFormat::BF16, kMixedRows, kernel.columns, 0, false};
    weights.push_back(randomWeight(desc, rng));
    for (const HostWeight &w : weights)
      packed.push_back(pack(w));
    std::normal_distribution<float> normal;
    for (int i = 0; i < tokens * stride(kernel.columns); ++i)
      x.floats()[i] = normal(rng) * (i % 37 == 0 ? 5.0f : 1.0f);
    for (int i = 0; i < stride(kernel.columns); ++i)
      norm.floats()[i] = 1.0f + 0.1f * normal(rng);
  }

  int outWidth() const {
    return stride(kernel.rows) +
           (kernel.kind == TestKind::Mixed ? kMixedRows : 0);
  }

  std::vector<float> run(int threads, const LinearKernel &with, int first,
                         int count) {
    Buffer out(int64_t(count) * outWidth() * 4);
    float *rows = x.floats() + first * stride(kernel.columns);
    std::vector<void *> args = {rows, packed[0].bytes()};
    if (kernel.kind != TestKind::Linear)
      args.push_back(packed[1].bytes());
    if (kernel.kind == TestKind::Mixed)
      args.push_back(norm.bytes());
    args.push_back(out.bytes());
    launch(with, args, count, threads);
    EXPECT_TRUE(out.guardIntact());
    return {out.floats(), out.floats() + count * outWidth()};
  }

  std::vector<float> run(int threads) {
    return run(threads, kernel, 0, tokens);
  }

  /// The input as the weights see it.
  std::vector<float> inputOf(int t) const {
    const float *row = x.floats() + t * stride(kernel.columns);
    std::vector<float> v(row, row + kernel.columns);
    if (kernel.kind != TestKind::Mixed)
      return v;
    for (int begin : {0, kMixedSplit}) {
      int end = begin == 0 ? kMixedSplit : kernel.columns;
      double squares = 0;
      for (int i = begin; i < end; ++i)
        squares += double(v[i]) * v[i];
      double r = 1 / std::sqrt(squares / (end - begin) + 1e-6);
      for (int i = begin; i < end; ++i)
        v[i] = float(v[i] * r * norm.floats()[i]);
    }
    return v;
  }

  const LinearKernel &kernel;
  int tokens;
  std::mt19937 rng;
  Buffer x, norm;
  std::vector<HostWeight> weights;
  std::vector<Buffer> packed;
};

struct Expected {
  double value, tolerance;
};

/// One output of W x, with the tolerance that the file comment derives.
Expected reference(const std::vector<float> &w, const std::vector<float> &x,
                   const LinearKernel &k, bool quantized) {
  double sum = 0, magnitude = 0, variance = 0;
  const double limit = k.forms & 2 ? 16319 : 127;
  const int columns = k.columns;
  const int group = quantized ? k.inputGroup : columns;
  for (int g = 0; g < columns; g += group) {
    float top = 0;
    for (int c = g; c < g + group; ++c)
      top = std::fmax(top, std::fabs(x[size_t(c)]));
    const double step = quantized ? top / limit : 0;
    for (int c = g; c < g + group; ++c) {
      double product = double(w[size_t(c)]) * x[size_t(c)];
      sum += product;
      magnitude += std::fabs(product);
      variance += std::pow(w[size_t(c)] * step, 2) / 12;
    }
  }
  return {sum, 6 * std::sqrt(variance) + 2e-6 * magnitude + 1e-30};
}

void checkRows(Case &c, const std::vector<float> &out, int offset,
               const std::vector<std::pair<int, double>> &terms) {
  const WeightDesc &desc = c.weights[size_t(terms[0].first)].desc;
  const bool quantized = desc.group != 0;
  std::vector<float> w(size_t(desc.cols));
  std::vector<std::vector<float>> inputs;
  for (int t = 0; t < c.tokens; ++t)
    inputs.push_back(c.inputOf(t));
  for (int row = 0; row < stride(int(desc.rows)); ++row)
    for (int t = 0; t < c.tokens; ++t) {
      Expected e = {0, 0};
      for (auto [index, factor] : terms) {
        if (row >= desc.rows)
          continue;
        c.weights[size_t(index)].dequantizeRow(row, w.data());
        Expected term = reference(w, inputs[size_t(t)], c.kernel, quantized);
        e.value += factor * term.value;
        e.tolerance += factor * term.tolerance;
      }
      float got = out[size_t(t * c.outWidth() + offset + row)];
      ASSERT_NEAR(got, e.value, e.tolerance)
          << c.kernel.name << " token " << t << " of " << c.tokens << " row "
          << row;
    }
}

void check(Case &c) {
  std::vector<float> out = c.run(1);
  if (c.kernel.kind == TestKind::Linear2)
    checkRows(c, out, 0, {{0, 1.0}, {1, 0.5}});
  else
    checkRows(c, out, 0, {{0, 1.0}});
  if (c.kernel.kind == TestKind::Mixed)
    checkRows(c, out, stride(c.kernel.rows), {{1, 1.0}});
  for (int threads : {2, 3})
    EXPECT_EQ(0, std::memcmp(out.data(), c.run(threads).data(),
                             out.size() * sizeof(float)))
        << c.kernel.name << " on " << threads << " threads";
}

struct Variant {
  const char *name;
  const LinearKernelTable *table;
  bool supported;
};

std::vector<Variant> variants() {
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  bool bw = avx2 && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512dq");
  bool vnni = bw && __builtin_cpu_supports("avx512vnni") &&
              __builtin_cpu_supports("avx512bf16");
  return {{"Avx2", &latheTestAvx2, avx2},
          {"Avx512Bw", &latheTestAvx512Bw, bw},
          {"Avx512Vnni", &latheTestAvx512Vnni, vnni}};
}

class LinearTest : public testing::TestWithParam<Variant> {
protected:
  void SetUp() override {
    if (!GetParam().supported)
      GTEST_SKIP() << "this CPU lacks " << GetParam().name;
  }
  template <class Fn> void forEach(Fn f) {
    const LinearKernelTable &table = *GetParam().table;
    for (int i = 0; i < table.count && !HasFatalFailure(); ++i)
      f(table.kernels[i]);
  }
};

bool isGather(const LinearKernel &k) {
  return k.kind == TestKind::Gather || k.kind == TestKind::PlainGather;
}

TEST_P(LinearTest, MatchesReference) {
  forEach([](const LinearKernel &k) {
    if (isGather(k))
      return;
    std::vector<int> counts = {k.maxTokens};
    if (k.shared)
      counts = {1, 5, 6, 47, 48, 49, 63, 64, 65, 130};
    for (int tokens : counts) {
      Case c(k, tokens, 1);
      check(c);
    }
  });
}

/// A token's bits depend neither on the tokens beside it nor on which kernel,
/// decode or prefill, computed it.
TEST_P(LinearTest, TokensDoNotDependOnTheirNumber) {
  const LinearKernelTable &table = *GetParam().table;
  int pairs = 0;
  for (int i = 0; i + 1 < table.count; ++i) {
    const LinearKernel &a = table.kernels[i], &b = table.kernels[i + 1];
    if (a.kind != TestKind::Linear || b.kind != a.kind ||
        a.format != b.format || a.rows != b.rows || a.columns != b.columns ||
        a.group != b.group || a.forms != b.forms ||
        a.inputGroup != b.inputGroup || a.asymmetric != b.asymmetric)
      continue;
    ++pairs;
    const int tokens = std::min(a.maxTokens, b.maxTokens);
    Case c(a, std::max(a.maxTokens, b.maxTokens), 2);
    std::vector<float> first = c.run(1, a, 0, a.maxTokens);
    std::vector<float> all = c.run(1, b, 0, b.maxTokens);
    const size_t bytes = size_t(tokens * c.outWidth()) * sizeof(float);
    EXPECT_EQ(0, std::memcmp(first.data(), all.data(), bytes))
        << a.name << " and " << b.name;
  }
  EXPECT_GT(pairs, 20);
}

/// A NaN among the activations must not be quantised away.
TEST_P(LinearTest, NanReachesEveryOutputOfItsTokenOnly) {
  forEach([](const LinearKernel &k) {
    if (k.kind != TestKind::Linear || k.maxTokens < 2)
      return;
    Case c(k, k.maxTokens, 5);
    std::vector<float> before = c.run(1);
    c.x.floats()[stride(k.columns) + 7] = NAN;
    std::vector<float> after = c.run(1);
    for (int i = 0; i < k.maxTokens * c.outWidth(); ++i) {
      if (i / c.outWidth() != 1)
        ASSERT_EQ(before[size_t(i)], after[size_t(i)]) << k.name;
      else if (i % c.outWidth() < k.rows)
        ASSERT_TRUE(std::isnan(after[size_t(i)])) << k.name;
    }
  });
}

TEST_P(LinearTest, GathersRows) {
  forEach([](const LinearKernel &k) {
    if (!isGather(k))
      return;
    Case c(k, 1, 3);
    std::vector<float> expected(size_t(k.columns));
    for (int row : {0, 1, 15, 16, k.rows - 1}) {
      Buffer out(stride(k.columns) * 4);
      c.weights[0].dequantizeRow(row, expected.data());
      void *table = k.kind == TestKind::Gather ? c.packed[0].bytes()
                                               : c.weights[0].data.data();
      launch(k, {nullptr, table, out.bytes()}, 1, 1, row);
      EXPECT_TRUE(out.guardIntact());
      for (int i = 0; i < k.columns; ++i)
        ASSERT_NEAR(out.floats()[i], expected[size_t(i)],
                    1e-6 * std::fabs(expected[size_t(i)]))
            << k.name << " row " << row << " column " << i;
    }
  });
}

/// The device reads the layout that the host packs.
TEST_P(LinearTest, TileSizesAgree) {
  forEach([](const LinearKernel &k) {
    WeightDesc desc = {formatOf(k.format), k.rows, k.columns, k.group,
                       k.asymmetric};
    EXPECT_EQ(k.tileBytes, tileBytes(desc)) << k.name;
  });
}

INSTANTIATE_TEST_SUITE_P(Isa, LinearTest, testing::ValuesIn(variants()),
                         [](const auto &info) {
                           return std::string(info.param.name);
                         });

TEST(VariantsTest, EveryInstructionSetGivesTheSameBits) {
  std::vector<Variant> all = variants();
  for (size_t v = 1; v < all.size(); ++v) {
    if (!all[v - 1].supported || !all[v].supported)
      continue;
    for (int i = 0; i < all[v].table->count; ++i) {
      const LinearKernel &a = all[v - 1].table->kernels[i];
      const LinearKernel &b = all[v].table->kernels[i];
      if (isGather(a))
        continue;
      Case c(a, a.maxTokens, 4);
      EXPECT_EQ(c.run(1), c.run(1, b, 0, b.maxTokens)) << a.name;
    }
  }
}

TEST(PackCpuTest, RejectsWhatTheKernelsCannotRead) {
  EXPECT_TRUE(checkPackable({WeightFormat::Int4, 8, 128, 32, false}).ok());
  EXPECT_FALSE(checkPackable({WeightFormat::Int4, 8, 128, 24, false}).ok());
  EXPECT_FALSE(checkPackable({WeightFormat::Int4, 8, 128, 8, false}).ok());
  EXPECT_FALSE(checkPackable({WeightFormat::Int4, 8, 128, 0, false}).ok());
  EXPECT_FALSE(checkPackable({WeightFormat::Int4, 8, 144, 32, false}).ok());
  EXPECT_FALSE(checkPackable({WeightFormat::NvFp4, 8, 128, 32, false}).ok());
  EXPECT_FALSE(checkPackable({WeightFormat::BF16, 0, 128, 0, false}).ok());
  EXPECT_TRUE(checkPackable({WeightFormat::BF16, 1, 7, 0, false}).ok());
}

} // namespace
