//===- SampleTest.cpp - the GPU's choices are the CPU's -------------------===//
//
// The three entries of sample.cuh, run by the emulator, against Sampler. They
// share their arithmetic but not their algorithms.
//
//===----------------------------------------------------------------------===//

#include "tests/kernels/cuda/emulator/intrinsics.h"

#include "compiler/device/cuda/sample.cuh"
#include "runtime/engine/Sampler.h"
#include "tests/kernels/cuda/emulator/Emulator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace {

using lathe::Sampler;
using lathe::SamplerOptions;
using Floats = std::vector<float>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int kGuard = 256;

struct Choice {
  int token, status;
};

/// Rows of logits as a head leaves them, with NaN in the padding.
struct Rows {
  int vocab, rows, stride;
  Floats values;

  Rows(int vocab, int rows)
      : vocab(vocab), rows(rows), stride(lathe::strideOf(vocab + 5)),
        values(size_t(stride) * rows, std::nanf("")) {}
  float *row(int r) { return values.data() + size_t(r) * stride; }
  std::span<const float> read(int r) const {
    return {values.data() + size_t(r) * stride, size_t(stride)};
  }
};

Rows randomRows(int vocab, int rows, unsigned seed, float spread) {
  Rows logits(vocab, rows);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < vocab; ++i)
      logits.row(r)[i] = normal(random);
  return logits;
}

/// Runs the entries on dirty memory and checks what they leave behind.
std::vector<Choice> onGpu(const SamplerOptions &options, const Rows &logits,
                          int position,
                          emulator::Order order = emulator::Order::kAscending,
                          bool onlyHighest = false,
                          const std::vector<int> &ids = {}) {
  const int blocks = lathe::sampleBlocks(logits.stride);
  const size_t bytes = size_t(lathe::sampleScratch(logits.stride, logits.rows));
  alignas(256) static std::vector<char> memory;
  memory.assign(bytes + kGuard + 256, char(0xa5));
  char *scratch = memory.data() + (256 - size_t(memory.data()) % 256);
  std::vector<unsigned> counters(size_t(logits.rows) + 1, 0);
  counters.back() = 77;
  std::vector<int> tokens(size_t(logits.rows) + 1, -7), status(tokens);
  const LatheStep step{position, logits.rows, 0};
  const LatheLaunch ctx{&step, scratch, counters.data(), 0};
  const LatheSampling sampling{
      options.temperature, options.topK,
      options.topP,        options.minP,
      options.seed,        logits.vocab,
      logits.stride,       ids.empty() ? nullptr : ids.data()};
  const emulator::Grid grid{.gridX = blocks,
                            .gridY = logits.rows,
                            .threads = lathe::kSampleThreads,
                            .sharedBytes = lathe::kSampleSharedBytes,
                            .order = order};
  const float *values = logits.values.data();
  emulator::runGrid(grid, [&] {
    lathe::sampleHighest(ctx, values, &sampling, tokens.data(), status.data());
  });
  if (!onlyHighest) {
    emulator::runGrid(grid, [&] {
      lathe::sampleWeigh(ctx, values, &sampling, status.data());
    });
    emulator::runGrid(grid, [&] {
      lathe::sampleChoose(ctx, values, &sampling, tokens.data(), status.data());
    });
  }
  EXPECT_EQ(tokens.back(), -7);
  EXPECT_EQ(status.back(), -7);
  EXPECT_EQ(counters.back(), 77u);
  for (int r = 0; r < logits.rows; ++r)
    EXPECT_EQ(counters[size_t(r)], 0u);
  for (int i = 0; i < 64; ++i)
    EXPECT_EQ(scratch[bytes + size_t(i)], char(0xa5)) << "past the workspace";
  std::vector<Choice> choices;
  for (int r = 0; r < logits.rows; ++r)
    choices.push_back({tokens[size_t(r)], status[size_t(r)]});
  return choices;
}

std::string show(const SamplerOptions &o) {
  return "T " + std::to_string(o.temperature) + " k " + std::to_string(o.topK) +
         " p " + std::to_string(o.topP) + " min-p " + std::to_string(o.minP) +
         " seed " + std::to_string(o.seed);
}

void expectSame(const SamplerOptions &options, const Rows &logits,
                int position = 0,
                emulator::Order order = emulator::Order::kAscending,
                const std::vector<int> &ids = {}) {
  std::vector<Choice> found =
      onGpu(options, logits, position, order, false, ids);
  Sampler sampler = *Sampler::create(options);
  for (int r = 0; r < logits.rows; ++r) {
    auto expected =
        sampler.sample(logits.read(r), logits.vocab, position + r + 1, ids);
    ASSERT_TRUE(expected.ok()) << expected.status();
    ASSERT_EQ(found[size_t(r)].status, LATHE_SAMPLE_CHOSEN);
    ASSERT_EQ(found[size_t(r)].token, *expected)
        << show(options) << " vocab " << logits.vocab << " row " << r
        << " position " << position;
  }
}

std::vector<SamplerOptions> everyFilter() {
  std::vector<SamplerOptions> all;
  for (float temperature : {0.0f, 0.05f, 1.0f, 2.5f})
    for (int topK : {0, 1, 20, 300, 100000})
      for (float topP : {1.0f, 0.95f, 0.5f, 0.001f})
        for (float minP : {0.0f, 0.05f, 1.0f})
          if (temperature > 0 || (topK < 20 && minP == 0))
            all.push_back({temperature, topK, topP, minP, all.size()});
  return all;
}

TEST(CudaSample, AgreesWithTheCpuForEveryFilter) {
  for (float spread : {0.01f, 3.0f})
    for (int vocab : {1, 101, 4096}) {
      Rows logits = randomRows(vocab, 1, unsigned(vocab), spread);
      if (vocab > 50)
        logits.row(0)[7] = logits.row(0)[50] = -kInfinity;
      for (const SamplerOptions &options : everyFilter())
        expectSame(options, logits, int(options.seed) * 31);
    }
}

TEST(CudaSample, AgreesWithTheCpuForManySeeds) {
  const SamplerOptions all[] = {{1, 0, 1, 0},         {1, 0, 0.9f, 0},
                                {0.7f, 20, 0.95f, 0}, {1.5f, 64, 1, 0},
                                {1, 0, 1, 0.1f},      {1, 40, 0.8f, 0.05f},
                                {30, 0, 0.999f, 0},   {0.01f, 50, 0.99f, 0}};
  Rows logits = randomRows(3000, 8, 5, 2);
  for (SamplerOptions options : all)
    for (uint64_t seed = 1; seed <= 12; ++seed) {
      options.seed = seed * 0x123456789abcdef;
      expectSame(options, logits, int(seed) * 8);
    }
}

TEST(CudaSample, AgreesWithTheCpuOnALargeVocabulary) {
  Rows logits = randomRows(50000, 2, 9, 2.5f);
  for (SamplerOptions options :
       std::vector<SamplerOptions>{{0},
                                   {1, 0, 1, 0, 1},
                                   {1, 0, 0.95f, 0, 2},
                                   {0.6f, 20, 0.95f, 0, 3},
                                   {1, 0, 1, 0.05f, 4},
                                   {1, 20000, 0.9f, 0, 5}})
    expectSame(options, logits, 1000);
}

TEST(CudaSample, DoesNotDependOnTheOrderOfThreads) {
  Rows logits = randomRows(5000, 3, 2, 2);
  for (int i = 0; i < 5000; i += 3)
    logits.row(1)[i] = 1.5f; // many equal ones
  for (emulator::Order order : emulator::kOrders)
    for (SamplerOptions options : std::vector<SamplerOptions>{
             {0}, {1, 0, 1, 0, 1}, {1, 0, 0.9f, 0, 2}, {1, 100, 0.9f, 0, 3}})
      expectSame(options, logits, 5, order);
}

TEST(CudaSample, BreaksTiesByIds) {
  Rows logits(4096, 1);
  std::fill_n(logits.row(0), 4096, -2.0f);
  expectSame({}, logits);
  // Of equal logits, top-k and top-p keep the lowest ids.
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    expectSame({1, 10, 1, 0, seed}, logits);
    expectSame({1, 0, 0.01f, 0, seed}, logits);
    expectSame({1, 1000, 0.5f, 0, seed}, logits);
  }
  logits.row(0)[700] = logits.row(0)[300] = 5;
  expectSame({}, logits);
  logits.row(0)[299] = -0.0f;
  logits.row(0)[300] = logits.row(0)[700] = 0.0f;
  expectSame({}, logits);
  for (uint64_t seed = 1; seed <= 10; ++seed)
    expectSame({0.1f, 2, 1, 0, seed}, logits);
}

// A weight that ends exactly at the target ends the kept tokens.
TEST(CudaSample, TopPReachedExactly) {
  Rows logits(4, 8);
  for (int r = 0; r < 8; ++r)
    std::fill_n(logits.row(r), 4, 1.0f);
  for (float topP : {0.25f, 0.5f, 0.75f})
    for (int topK : {0, 2})
      for (uint64_t seed = 1; seed <= 4; ++seed)
        expectSame({1, topK, topP, 0, seed}, logits);
}

// Top-p ends at the last token of top-k, whose key begins like the next one's.
TEST(CudaSample, TopPDoesNotBringBackWhatTopKDropped) {
  Rows logits(3, 8);
  for (int r = 0; r < 8; ++r) {
    logits.row(r)[0] = 0.55f;
    logits.row(r)[1] = 1.0f;
    logits.row(r)[2] = 0.55001f;
  }
  for (uint64_t seed = 1; seed <= 4; ++seed)
    expectSame({1, 2, 0.9999f, 0, seed}, logits);
}

// More tokens in doubt than the list holds.
TEST(CudaSample, ManyEqualLogits) {
  const int vocab = lathe::kSampleListed + 3000;
  Rows logits(vocab, 1);
  std::fill_n(logits.row(0), vocab, 0.25f);
  for (int i = 0; i < vocab; i += 5)
    logits.row(0)[i] = 0.5f;
  for (SamplerOptions options :
       std::vector<SamplerOptions>{{1, 0, 0.9f, 0, 1},
                                   {1, 5000, 1, 0, 2},
                                   {1, 5000, 0.5f, 0, 3},
                                   {1, 1, 1, 0, 4},
                                   {1e30f, 0, 0.5f, 0, 5}})
    expectSame(options, logits);
}

TEST(CudaSample, ExtremeLogits) {
  Rows logits(2500, 1);
  std::fill_n(logits.row(0), 2500, -kInfinity);
  logits.row(0)[2400] = -3e38f;
  const std::vector<SamplerOptions> all = {
      {0}, {1}, {1, 5, 0.9f}, {1e-38f}, {1e-45f, 3, 0.4f}, {1e38f, 0, 0.4f}};
  for (const SamplerOptions &options : all)
    expectSame(options, logits);
  logits.row(0)[1] = 3e38f;
  logits.row(0)[2] = 2.9e38f;
  logits.row(0)[3] = 1e-45f;
  for (const SamplerOptions &options : all)
    for (int position = 0; position < 5; ++position)
      expectSame(options, logits, position);
}

TEST(CudaSample, GreedyNeedsOneLaunch) {
  Rows logits = randomRows(5000, 4, 8, 1);
  std::vector<Choice> found =
      onGpu({}, logits, 3, emulator::Order::kAscending, true);
  Sampler sampler = *Sampler::create({});
  for (int r = 0; r < 4; ++r)
    EXPECT_EQ(found[size_t(r)].token, *sampler.sample(logits.read(r), 5000, 0));
}

TEST(CudaSample, ReportsBadLogits) {
  for (float temperature : {0.0f, 1.0f}) {
    Rows logits = randomRows(2100, 5, 3, 1);
    logits.row(1)[2099] = std::nanf("");
    logits.row(1)[5] = kInfinity;
    logits.row(2)[0] = kInfinity;
    std::fill_n(logits.row(3), 2100, -kInfinity);
    std::vector<Choice> found =
        onGpu({.temperature = temperature, .topP = 0.9f}, logits, 0);
    EXPECT_EQ(found[0].status, LATHE_SAMPLE_CHOSEN);
    EXPECT_EQ(found[1].status, LATHE_SAMPLE_NAN);
    EXPECT_EQ(found[2].status, LATHE_SAMPLE_INFINITE);
    EXPECT_EQ(found[3].status, LATHE_SAMPLE_NOTHING);
    EXPECT_EQ(found[4].status, LATHE_SAMPLE_CHOSEN);
    for (int r : {1, 2, 3})
      EXPECT_EQ(found[size_t(r)].token, 0);
  }
}

/// Logits of some tokens only, as a draft head has them: their noise is that of
/// the tokens.
TEST(CudaSample, RowsOfADraftHeadStandForTokens) {
  const int vocab = 700;
  const Rows logits = randomRows(vocab, 2, 77, 2.0f);
  std::vector<int> ids;
  for (int i = 0; i < vocab; ++i)
    ids.push_back(i * 37 % 5000);
  for (const SamplerOptions &options : everyFilter())
    expectSame(options, logits, 11, emulator::Order::kAscending, ids);
  expectSame({}, logits, 11, emulator::Order::kAscending, ids);
}

} // namespace
