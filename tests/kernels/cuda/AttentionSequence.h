//===- AttentionSequence.h - tokens for the attention tests -----*- C++ -*-===//
//
// Inputs and caches with poisoned ends, and attention over them written out in
// double precision. Included after the kernels.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_KERNELS_CUDA_ATTENTIONSEQUENCE_H
#define LATHE_TESTS_KERNELS_CUDA_ATTENTIONSEQUENCE_H

#include "compiler/device/cuda/attention.cuh"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace lathe::test {

/// What the compiler prints. Heads of q stand two heads apart, as in a model
/// whose queries alternate with gates.
template <class KvType, int Heads, int KvHeads, int HeadDim, int Rotary,
          int Tokens = 1, int Blocks = 2, bool Norm = true, int Stages = 1>
struct Config {
  using Kv = KvType;
  static constexpr int kHeads = Heads, kKvHeads = KvHeads;
  static constexpr int kHeadDim = HeadDim, kRotaryDim = Rotary;
  static constexpr int kQHeadStride = 2 * HeadDim;
  static constexpr int kQStride = 2 * HeadDim * Heads + 16;
  static constexpr int kKStride = KvHeads * HeadDim + 32;
  static constexpr int kVStride = KvHeads * HeadDim;
  static constexpr int kOutStride = Heads * HeadDim + 16;
  static constexpr float kScale = 0.125f, kNormEps = 1e-6f;
  static constexpr bool kQkNorm = Norm, kNormPlusOne = HeadDim == 256;
  static constexpr int kTokens = Tokens, kBlocks = Blocks, kStages = Stages;
  static constexpr auto kInvFreq = [] {
    std::array<float, Rotary / 2> f{};
    for (int i = 0; i < Rotary / 2; ++i)
      f[i] = 1.0f / (1 + 7 * i);
    return f;
  }();

  template <int T, int B = Blocks, int S = Stages>
  using With = Config<Kv, Heads, KvHeads, HeadDim, Rotary, T, B, Norm, S>;
};

inline float toFloat(float x) { return x; }
inline float toFloat(u16 x) { return halfToFloat(x); }

template <class T> std::vector<T> poison(size_t size) {
  std::vector<T> v(size);
  std::memset(v.data(), 0xff, size * sizeof(T)); // NaN in f16 and float
  return v;
}
inline std::vector<float> normal(std::mt19937 &random, size_t size,
                                 float mean = 0) {
  std::normal_distribution<float> next(mean, 1.0f);
  std::vector<float> v(size);
  for (float &x : v)
    x = next(random);
  return v;
}
template <class T>
bool sameBits(const std::vector<T> &a, const std::vector<T> &b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// Tokens that come after `position` others, and what becomes of them.
template <class Cfg> struct Sequence {
  using Kv = typename Cfg::Kv;
  int tokens, position, capacity;
  std::vector<float> q, k, v, qNorm, kNorm, out;
  std::vector<Kv> keys, values;

  Sequence(int position, int tokens)
      : tokens(tokens), position(position), capacity(position + tokens + 40) {
    std::mt19937 random(position * 31 + tokens);
    constexpr int kD = Cfg::kHeadDim;
    q = normal(random, (size_t)tokens * Cfg::kQStride);
    k = normal(random, (size_t)tokens * Cfg::kKStride);
    v = normal(random, (size_t)tokens * Cfg::kVStride);
    qNorm = normal(random, kD, Cfg::kNormPlusOne ? 0.0f : 1.0f);
    kNorm = normal(random, kD, Cfg::kNormPlusOne ? 0.0f : 1.0f);
    out = poison<float>((size_t)tokens * Cfg::kOutStride);
    keys = poison<Kv>((size_t)Cfg::kKvHeads * capacity * kD);
    values = keys;
    for (int h = 0; h < Cfg::kKvHeads; ++h)
      for (auto *cache : {&keys, &values}) {
        auto past = normal(random, (size_t)position * kD);
        for (size_t i = 0; i < past.size(); ++i)
          storeAs(&(*cache)[(size_t)h * capacity * kD + i], past[i]);
      }
  }
  double key(int h, int p, int i) const {
    return toFloat(keys[((size_t)h * capacity + p) * Cfg::kHeadDim + i]);
  }
  double value(int h, int p, int i) const {
    return toFloat(values[((size_t)h * capacity + p) * Cfg::kHeadDim + i]);
  }
  bool operator==(const Sequence &o) const {
    return sameBits(out, o.out) && sameBits(keys, o.keys) &&
           sameBits(values, o.values);
  }
  AttentionArgs<Cfg> args(int first = 0) {
    return {q.data() + (size_t)first * Cfg::kQStride,
            k.data() + (size_t)first * Cfg::kKStride,
            v.data() + (size_t)first * Cfg::kVStride,
            qNorm.data(),
            kNorm.data(),
            keys.data(),
            values.data(),
            out.data() + (size_t)first * Cfg::kOutStride};
  }
};

template <class Cfg>
std::vector<double> placed(const float *x, const std::vector<float> &weight,
                           int position) {
  constexpr int kD = Cfg::kHeadDim, kHalf = Cfg::kRotaryDim / 2;
  std::vector<double> y(x, x + kD);
  double sum = 0;
  for (double e : y)
    sum += e * e;
  if (Cfg::kQkNorm)
    for (int i = 0; i < kD; ++i)
      y[i] *= (weight[i] + (Cfg::kNormPlusOne ? 1.0 : 0.0)) /
              std::sqrt(sum / kD + Cfg::kNormEps);
  for (int i = 0; i < kHalf; ++i) {
    double angle = (double)position * Cfg::kInvFreq[i], a = y[i];
    double b = y[i + kHalf];
    y[i] = a * std::cos(angle) - b * std::sin(angle);
    y[i + kHalf] = b * std::cos(angle) + a * std::sin(angle);
  }
  return y;
}

/// Requires every result to be within `tolerance` of attention over what is in
/// the cache, the new rows of the cache to be right, and nothing after them to
/// have been touched.
template <class Cfg> void check(const Sequence<Cfg> &s, double tolerance) {
  constexpr int kD = Cfg::kHeadDim, kGroup = Cfg::kHeads / Cfg::kKvHeads;
  const double rounding = sizeof(typename Cfg::Kv) == 2 ? 6e-4 : 2e-6;
  double worst = 0;
  for (int t = 0; t < s.tokens; ++t) {
    const int p = s.position + t;
    for (int h = 0; h < Cfg::kKvHeads; ++h) {
      auto key =
          placed<Cfg>(&s.k[(size_t)t * Cfg::kKStride + h * kD], s.kNorm, p);
      for (int i = 0; i < kD; ++i) {
        double value = s.v[(size_t)t * Cfg::kVStride + h * kD + i];
        ASSERT_NEAR(s.key(h, p, i), key[i], rounding * (1 + std::abs(key[i])));
        ASSERT_NEAR(s.value(h, p, i), value, rounding * (1 + std::abs(value)));
      }
    }
    for (int h = 0; h < Cfg::kHeads; ++h) {
      auto q = placed<Cfg>(
          &s.q[(size_t)t * Cfg::kQStride + h * Cfg::kQHeadStride], s.qNorm, p);
      std::vector<double> out(kD), weights(p + 1);
      double peak = -1e300, total = 0;
      for (int j = 0; j <= p; ++j) {
        for (int i = 0; i < kD; ++i)
          weights[j] += q[i] * s.key(h / kGroup, j, i) * Cfg::kScale;
        peak = std::max(peak, weights[j]);
      }
      for (int j = 0; j <= p; ++j) {
        weights[j] = std::exp(weights[j] - peak);
        total += weights[j];
        for (int i = 0; i < kD; ++i)
          out[i] += weights[j] * s.value(h / kGroup, j, i);
      }
      for (int i = 0; i < kD; ++i) {
        double got = s.out[(size_t)t * Cfg::kOutStride + h * kD + i];
        ASSERT_FALSE(std::isnan(got)) << "token " << t << " head " << h;
        worst = std::max(worst, std::abs(got - out[i] / total));
      }
    }
  }
  EXPECT_LT(worst, tolerance);
  for (int h = 0; h < Cfg::kKvHeads; ++h)
    for (int p = s.position + s.tokens; p < s.capacity; ++p)
      for (int i = 0; i < kD; ++i)
        ASSERT_TRUE(std::isnan(s.key(h, p, i)) && std::isnan(s.value(h, p, i)))
            << "position " << p;
}

} // namespace lathe::test

#endif // LATHE_TESTS_KERNELS_CUDA_ATTENTIONSEQUENCE_H
