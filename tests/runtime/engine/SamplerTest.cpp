#include "runtime/engine/Sampler.h"

#include "runtime/base/SamplerMath.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace lathe {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> randomLogits(size_t count, unsigned seed, float spread) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(count);
  for (float &logit : logits)
    logit = normal(random);
  return logits;
}

int32_t sample(const SamplerOptions &options, std::span<const float> logits,
               int64_t position = 0) {
  auto sampler = Sampler::create(options);
  EXPECT_TRUE(sampler.ok()) << sampler.status();
  auto id = sampler->sample(logits, int32_t(logits.size()), position);
  EXPECT_TRUE(id.ok()) << id.status();
  return id.ok() ? *id : -1;
}

/// The definition at the top of Sampler.h, with a full sort and no shortcuts.
int32_t reference(const SamplerOptions &options, std::span<const float> logits,
                  int64_t position) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
    float x = logits[size_t(a)], y = logits[size_t(b)];
    return x != y ? x > y : a < b;
  });
  if (options.temperature == 0)
    return ids[0];
  auto score = [&](int32_t id) {
    return (double(logits[size_t(id)]) - logits[size_t(ids[0])]) /
           options.temperature;
  };
  if (options.topK > 0 && size_t(options.topK) < ids.size())
    ids.resize(size_t(options.topK));
  if (options.topP < 1) {
    double total = 0, sum = 0;
    for (int32_t id : ids)
      total += std::exp(score(id));
    size_t kept = 0;
    while (kept < ids.size() && sum < options.topP * total)
      sum += std::exp(score(ids[kept++]));
    ids.resize(kept);
  }
  double best = -kInfinity;
  int32_t choice = -1;
  for (int32_t id : ids) {
    if (std::exp(score(id)) < options.minP * (1 - 1e-12))
      continue;
    double value = score(id) + gumbelNoise(options.seed, position, id);
    if (value > best) {
      best = value;
      choice = id;
    }
  }
  return choice;
}

TEST(Sampler, greedy) {
  for (size_t count : {1u, 15u, 16u, 255u, 256u, 257u, 5000u}) {
    std::vector<float> logits = randomLogits(count, unsigned(count), 3);
    EXPECT_EQ(sample({}, logits), reference({}, logits, 0));
  }
}

TEST(Sampler, greedyTiesGoToTheLowestId) {
  std::vector<float> logits(1000, -2.0f);
  EXPECT_EQ(sample({}, logits), 0);
  logits[700] = logits[300] = 5;
  EXPECT_EQ(sample({}, logits), 300);
  logits[299] = -0.0f;
  logits[300] = logits[700] = 0.0f;
  EXPECT_EQ(sample({}, logits), 299);
}

TEST(Sampler, paddingIsIgnored) {
  std::vector<float> logits(100, 0.0f);
  logits[60] = 1;
  logits[80] = 100;
  logits[81] = std::nanf("");
  for (float temperature : {0.0f, 0.01f}) {
    Sampler sampler = *Sampler::create({.temperature = temperature});
    EXPECT_EQ(*sampler.sample(logits, 80, 0), 60);
  }
}

TEST(Sampler, agreesWithTheDefinition) {
  std::vector<SamplerOptions> all;
  for (float temperature : {0.3f, 1.0f, 2.5f})
    for (int topK : {0, 1, 20, 300, 100000})
      for (float topP : {1.0f, 0.95f, 0.5f, 0.001f})
        for (float minP : {0.0f, 0.05f, 1.0f})
          all.push_back({temperature, topK, topP, minP, 42});
  for (float spread : {0.0f, 0.01f, 1.0f, 4.0f})
    for (size_t count : {1u, 37u, 3000u}) {
      std::vector<float> logits = randomLogits(count, 11, spread);
      if (count > 10)
        logits[7] = -kInfinity;
      for (const SamplerOptions &options : all)
        for (int64_t position : {0, 1, 77777})
          EXPECT_EQ(sample(options, logits, position),
                    reference(options, logits, position))
              << "T " << options.temperature << " k " << options.topK << " p "
              << options.topP << " min-p " << options.minP << " spread "
              << spread << " count " << count;
    }
}

TEST(Sampler, filtersKeepTheRightTokens) {
  // Probabilities 0.4, 0.3, 0.2, 0.1.
  std::vector<float> logits = {std::log(0.1f), std::log(0.4f), std::log(0.3f),
                               std::log(0.2f)};
  auto seen = [&](SamplerOptions options) {
    std::vector<int> counts(4);
    options.temperature = 1;
    Sampler sampler = *Sampler::create(options);
    for (int64_t position = 0; position < 500; ++position)
      ++counts[size_t(*sampler.sample(logits, 4, position))];
    std::string kept;
    for (int count : counts)
      kept += count ? '1' : '0';
    return kept;
  };
  EXPECT_EQ(seen({}), "1111");
  EXPECT_EQ(seen({.topK = 3}), "0111");
  EXPECT_EQ(seen({.topK = 1}), "0100");
  EXPECT_EQ(seen({.topP = 0.65f}), "0110");
  EXPECT_EQ(seen({.topP = 0.75f}), "0111");
  EXPECT_EQ(seen({.topP = 0.01f}), "0100");
  EXPECT_EQ(seen({.minP = 0.4f}), "0111");
  EXPECT_EQ(seen({.minP = 1}), "0100");
  // Of the two that top-k keeps, 0.4 is 57 %: top-p sees renormalised values.
  EXPECT_EQ(seen({.topK = 2, .topP = 0.56f}), "0100");
  EXPECT_EQ(seen({.topK = 2, .topP = 0.58f}), "0110");
}

TEST(Sampler, drawsWithTheSoftmaxProbabilities) {
  std::vector<float> logits = {0.0f, 1.0f, -1.0f, 2.0f, 0.5f};
  double total = 0;
  for (float logit : logits)
    total += std::exp(double(logit) / 0.8);
  constexpr int kDraws = 200000;
  std::vector<double> counts(logits.size());
  Sampler sampler = *Sampler::create({.temperature = 0.8f, .seed = 5});
  for (int64_t position = 0; position < kDraws; ++position)
    ++counts[size_t(*sampler.sample(logits, 5, position))];
  double chiSquare = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    double expected = kDraws * std::exp(double(logits[i]) / 0.8) / total;
    chiSquare += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  EXPECT_LT(chiSquare, 18.5); // 4 degrees of freedom, p = 0.001
}

TEST(Sampler, theNoiseIsIndependentOfEverythingElse) {
  std::vector<float> logits = randomLogits(2000, 1, 1);
  SamplerOptions options{.temperature = 1, .topK = 50, .seed = 9};
  Sampler first = *Sampler::create(options), second = *Sampler::create(options);
  for (int64_t position : {5, 3, 5, 9})
    first.sample(logits, 2000, position).IgnoreError();
  EXPECT_EQ(*first.sample(logits, 2000, 4), *second.sample(logits, 2000, 4));
  // A draft with nearly the same logits draws the same.
  std::vector<float> draft = logits;
  for (float &logit : draft)
    logit += 1e-4f;
  int agree = 0;
  for (int64_t position = 0; position < 200; ++position)
    agree += *first.sample(logits, 2000, position) ==
             *second.sample(draft, 2000, position);
  EXPECT_GT(agree, 195);
}

TEST(Sampler, theNoiseIsGumbel) {
  double sum = 0, squares = 0, lagged = 0, last = 0;
  constexpr int kCount = 100000;
  for (int i = 0; i < kCount; ++i) {
    double noise = gumbelNoise(1, i / 1000, i % 1000) - 0.5772156649;
    sum += noise;
    squares += noise * noise;
    lagged += noise * last;
    last = noise;
  }
  EXPECT_NEAR(sum / kCount, 0, 0.02);
  EXPECT_NEAR(squares / kCount, 1.6449, 0.05); // pi^2 / 6
  EXPECT_NEAR(lagged / kCount, 0, 0.02);
  EXPECT_NE(gumbelNoise(1, 0, 0), gumbelNoise(2, 0, 0));
  EXPECT_NE(gumbelNoise(1, 0, 0), gumbelNoise(1, 1, 0));
}

TEST(SamplerMath, logarithmWithinAnUlp) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 100000; ++i) {
    double x = std::ldexp(1 + double(random() >> 12) * 0x1p-52,
                          int(random() % 70) - 60);
    double expected = std::log(x);
    double ulp =
        std::nextafter(std::abs(expected), HUGE_VAL) - std::abs(expected);
    // libm's own error is half an ulp.
    ASSERT_LE(std::abs(exact::log(x) - expected), 1.5 * ulp) << x;
  }
  EXPECT_EQ(exact::log(1.0), 0);
}

TEST(SamplerMath, noiseIsFinite) {
  EXPECT_LT(exact::gumbel(~uint64_t(0)), 38);
  EXPECT_GT(exact::gumbel(~uint64_t(0)), 37);
  EXPECT_GT(exact::gumbel(0), -3.7);
}

TEST(SamplerMath, exponential) {
  for (float x = 0; x > -87; x -= 0.01f)
    ASSERT_NEAR(exact::expNegative(x) / std::exp(double(x)), 1,
                x > -10 ? 1e-6 : 1e-5)
        << x;
  EXPECT_EQ(exact::expNegative(0), 1);
  EXPECT_EQ(exact::expNegative(-88), 0);
  EXPECT_EQ(exact::expNegative(-kInfinity), 0);
}

TEST(Sampler, extremeLogits) {
  std::vector<float> logits(600, -kInfinity);
  logits[400] = -3e38f;
  EXPECT_EQ(sample({}, logits), 400);
  EXPECT_EQ(sample({.temperature = 1}, logits), 400);
  EXPECT_EQ(sample({.temperature = 1, .topK = 5, .topP = 0.9f}, logits), 400);
  logits[401] = 3e38f;
  for (float temperature : {1e-38f, 1.0f, 1e38f})
    EXPECT_EQ(sample({.temperature = temperature, .topP = 0.4f}, logits), 401);
}

TEST(Sampler, badLogits) {
  for (float temperature : {0.0f, 1.0f})
    for (float bad : {std::nanf(""), kInfinity}) {
      std::vector<float> logits(300, 0.0f);
      logits[299] = bad;
      Sampler sampler = *Sampler::create({.temperature = temperature});
      EXPECT_EQ(exitCode(sampler.sample(logits, 300, 0).status()), 1);
      EXPECT_TRUE(sampler.sample(logits, 299, 0).ok());
    }
  Sampler sampler = *Sampler::create({});
  std::vector<float> logits(10, -kInfinity);
  EXPECT_EQ(exitCode(sampler.sample(logits, 10, 0).status()), 1);
  EXPECT_EQ(exitCode(sampler.sample(logits, 11, 0).status()), 1);
  EXPECT_EQ(exitCode(sampler.sample(logits, 0, 0).status()), 1);
}

TEST(Sampler, badOptions) {
  auto code = [](SamplerOptions options) {
    return exitCode(Sampler::create(options).status());
  };
  EXPECT_EQ(code({}), 0);
  EXPECT_EQ(code({.temperature = -1}), 2);
  EXPECT_EQ(code({.temperature = std::nanf("")}), 2);
  EXPECT_EQ(code({.temperature = kInfinity}), 2);
  EXPECT_EQ(code({.topK = -1}), 2);
  EXPECT_EQ(code({.topP = 0}), 2);
  EXPECT_EQ(code({.topP = 1.1f}), 2);
  EXPECT_EQ(code({.topP = std::nanf("")}), 2);
  EXPECT_EQ(code({.minP = -0.1f}), 2);
  EXPECT_EQ(code({.minP = 2}), 2);
}

} // namespace
} // namespace lathe
