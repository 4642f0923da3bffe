//===- AttentionTest.cpp - the attention and norm kernels -----------------===//
//
// attentionDecode and attentionPrefill against attention written out in double
// precision, against each other, and across team sizes; sine and cosine up to
// the largest position; the norm kernel.
//
//===----------------------------------------------------------------------===//

#include "tests/kernels/cpu/mixers/MixerTest.h"

using namespace lathe::test;

namespace {

constexpr int kCapacity = 320;

float bf16Round(float x) {
  uint32_t u;
  std::memcpy(&u, &x, 4);
  u = (u + 0x7fff + ((u >> 16) & 1)) & 0xffff0000;
  std::memcpy(&x, &u, 4);
  return x;
}

/// Inputs of `tokens` tokens, the first at position 0.
struct Problem {
  const AttentionCase &shape;
  int tokens;
  Floats q, k, v, qNorm, kNorm;

  Problem(const AttentionCase &c, int tokens, unsigned seed)
      : shape(c), tokens(tokens) {
    Random random(seed);
    q = random.normal((size_t)tokens * c.qStride, 2.0f);
    k = random.normal((size_t)tokens * c.kStride, 2.0f);
    v = random.normal((size_t)tokens * c.vStride);
    float mean = c.plusOne ? 0.0f : 1.0f;
    qNorm = random.normal(c.headDim, 0.3f, mean);
    kNorm = random.normal(c.headDim, 0.3f, mean);
  }
};

struct Result {
  Floats out, kCache, vCache;

  explicit Result(const Problem &p)
      : out(poison((size_t)p.tokens * p.shape.outStride)),
        kCache(poison((size_t)p.shape.kvHeads * kCapacity * p.shape.headDim)),
        vCache(kCache) {}
  bool operator==(const Result &o) const {
    return sameBits(out, o.out) && sameBits(kCache, o.kCache) &&
           sameBits(vCache, o.vCache);
  }
};

/// Continues `r` with tokens [begin, end) in launches of `batch`.
void advance(const Problem &p, Result &r, bool decode, int threads, int begin,
             int end, int batch) {
  const AttentionCase &c = p.shape;
  for (int t = begin; t < end; t += batch) {
    int count = std::min(batch, end - t);
    auto rows = [&](const Floats &all, int stride) {
      return Floats(all.begin() + (size_t)t * stride,
                    all.begin() + (size_t)(t + count) * stride);
    };
    Floats q = rows(p.q, c.qStride), k = rows(p.k, c.kStride),
           v = rows(p.v, c.vStride);
    runTeam(decode ? c.decode : c.prefill,
            {q.data(), k.data(), v.data(), (void *)p.qNorm.data(),
             (void *)p.kNorm.data(), r.kCache.data(), r.vCache.data(),
             r.out.data() + (size_t)t * c.outStride},
            threads, count, t, kCapacity,
            decode ? c.decodeBytes : c.prefillBytes);
  }
}

Result run(const Problem &p, bool decode, int threads, int batch) {
  Result r(p);
  advance(p, r, decode, threads, 0, p.tokens, batch);
  return r;
}

std::vector<double> placed(const AttentionCase &c, const float *x,
                           const Floats &norm, int position) {
  int d = c.headDim, half = c.rotaryDim / 2;
  std::vector<double> y(x, x + d);
  if (c.qkNorm) {
    double sum = 0;
    for (double value : y)
      sum += value * value;
    for (int i = 0; i < d; ++i)
      y[i] *=
          ((double)norm[i] + (c.plusOne ? 1 : 0)) / std::sqrt(sum / d + c.eps);
  }
  for (int i = 0; i < half; ++i) {
    double angle = (double)position * c.invFreq[i];
    double a = y[i], b = y[i + half];
    y[i] = a * std::cos(angle) - b * std::sin(angle);
    y[i + half] = b * std::cos(angle) + a * std::sin(angle);
  }
  return y;
}

std::vector<double> reference(const Problem &p) {
  const AttentionCase &c = p.shape;
  int d = c.headDim, group = c.heads / c.kvHeads;
  std::vector<double> out((size_t)p.tokens * c.outStride);
  for (int g = 0; g < c.kvHeads; ++g) {
    std::vector<std::vector<double>> keys, values;
    for (int t = 0; t < p.tokens; ++t) {
      keys.push_back(
          placed(c, &p.k[(size_t)t * c.kStride + g * d], p.kNorm, t));
      const float *v = &p.v[(size_t)t * c.vStride + g * d];
      values.emplace_back(v, v + d);
      if (c.bf16)
        for (int i = 0; i < d; ++i) {
          keys[t][i] = bf16Round((float)keys[t][i]);
          values[t][i] = bf16Round(v[i]);
        }
    }
    for (int t = 0; t < p.tokens; ++t)
      for (int h = g * group; h < (g + 1) * group; ++h) {
        auto q = placed(c, &p.q[(size_t)t * c.qStride + h * c.qHeadStride],
                        p.qNorm, t);
        std::vector<double> scores(t + 1);
        double peak = -1e300, total = 0;
        for (int j = 0; j <= t; ++j) {
          for (int i = 0; i < d; ++i)
            scores[j] += q[i] * keys[j][i] * c.scale;
          peak = std::max(peak, scores[j]);
        }
        for (double &s : scores)
          total += s = std::exp(s - peak);
        double *o = &out[(size_t)t * c.outStride + h * d];
        for (int j = 0; j <= t; ++j)
          for (int i = 0; i < d; ++i)
            o[i] += scores[j] / total * values[j][i];
      }
  }
  return out;
}

class AttentionTest : public MixerTest {
protected:
  template <class F> void forEachCase(F body) {
    for (int i = 0; i < GetParam()->attentionCount; ++i) {
      const AttentionCase &c = GetParam()->attentions[i];
      SCOPED_TRACE(testing::Message()
                   << c.heads << "/" << c.kvHeads << " heads of " << c.headDim
                   << ", rotary " << c.rotaryDim
                   << (c.bf16 ? ", bf16 cache" : ""));
      // A key that falls on the other side of a bf16 rounding boundary than
      // the double-precision one is half a unit off.
      body(c, c.bf16 ? 2e-3 : 3e-6);
    }
  }
};

TEST_P(AttentionTest, DecodeMatchesTheDefinition) {
  forEachCase([](const AttentionCase &c, double tolerance) {
    Problem p(c, 140, 1);
    std::vector<double> want = reference(p);
    for (int batch : {1, 3, 8})
      EXPECT_LT(relativeError(run(p, true, 1, batch).out, want), tolerance);
  });
}

TEST_P(AttentionTest, DecodeDoesNotDependOnTheNumberOfTokens) {
  forEachCase([](const AttentionCase &c, double) {
    Problem p(c, 200, 2);
    Result one = run(p, true, 1, 1);
    for (int batch = 2; batch <= 8; ++batch)
      EXPECT_TRUE(run(p, true, 1, batch) == one) << batch << " tokens";
  });
}

TEST_P(AttentionTest, PrefillMatchesTheDefinitionAndDecode) {
  forEachCase([](const AttentionCase &c, double tolerance) {
    for (int tokens : {1, 3, 17, 63, 64, 65, 130}) {
      SCOPED_TRACE(testing::Message() << tokens << " tokens");
      Problem p(c, tokens, tokens);
      Result prefill = run(p, false, 1, tokens), decode = run(p, true, 1, 1);
      EXPECT_LT(relativeError(prefill.out, reference(p)), tolerance);
      EXPECT_LT(relativeError(prefill.out, decode.out), 1e-5);
      EXPECT_TRUE(sameBits(prefill.kCache, decode.kCache));
      EXPECT_TRUE(sameBits(prefill.vCache, decode.vCache));
    }
  });
}

TEST_P(AttentionTest, PrefillContinuesACache) {
  forEachCase([](const AttentionCase &c, double tolerance) {
    Problem p(c, 300, 3);
    std::vector<double> want = reference(p);
    for (int batch : {37, 100, 173})
      EXPECT_LT(relativeError(run(p, false, 2, batch).out, want), tolerance);
    Result mixed(p);
    advance(p, mixed, false, 1, 0, 77, 77);
    advance(p, mixed, true, 1, 77, 85, 4);
    advance(p, mixed, false, 1, 85, 300, 215);
    EXPECT_LT(relativeError(mixed.out, want), tolerance);
  });
}

TEST_P(AttentionTest, TeamSizeChangesNoBit) {
  forEachCase([](const AttentionCase &c, double) {
    Problem p(c, 90, 4);
    Result prefill = run(p, false, 1, 90), decode = run(p, true, 1, 5);
    for (int threads : {2, 3, 9}) {
      EXPECT_TRUE(run(p, false, threads, 90) == prefill) << threads;
      EXPECT_TRUE(run(p, true, threads, 5) == decode) << threads;
    }
  });
}

TEST_P(AttentionTest, RejectedPositionsAreOverwritten) {
  forEachCase([](const AttentionCase &c, double) {
    Problem p(c, 40, 5), other(c, 40, 6);
    Result plain = run(p, true, 1, 1), r(p);
    advance(p, r, true, 1, 0, 30, 5);
    advance(other, r, true, 1, 30, 38, 8);
    advance(p, r, true, 1, 30, 40, 5);
    EXPECT_TRUE(r == plain);
  });
}

TEST_P(AttentionTest, SinCosIsExactToTheLargestPosition) {
  Random random(9);
  for (float frequency : {1.0f, 0.749894f, 0.1f, 1e-3f, 1.3335e-7f})
    for (int position : {0, 1, 2, 3, 355, 710, 4097, 131071, 262143, 262144}) {
      double x = (double)position * frequency;
      float sine, cosine;
      GetParam()->sinCos(x, &sine, &cosine);
      EXPECT_NEAR(sine, std::sin(x), 6e-8) << x;
      EXPECT_NEAR(cosine, std::cos(x), 6e-8) << x;
    }
  for (float x : random.normal(10000, 1e5f)) {
    float sine, cosine;
    GetParam()->sinCos(x, &sine, &cosine);
    EXPECT_NEAR(sine, std::sin((double)x), 6e-8) << x;
    EXPECT_NEAR(cosine, std::cos((double)x), 6e-8) << x;
  }
}

TEST_P(AttentionTest, NormMatchesTheDefinition) {
  for (int i = 0; i < GetParam()->normCount; ++i) {
    const NormCase &c = GetParam()->norms[i];
    int stride = (c.width + 15) / 16 * 16;
    for (int tokens : {1, 2, 7}) {
      Random random(tokens);
      Floats x = poison(tokens * stride), weight = random.normal(c.width);
      std::vector<double> want(tokens * stride);
      for (int t = 0; t < tokens; ++t) {
        Floats row = random.normal(c.width, 3.0f);
        std::copy(row.begin(), row.end(), x.begin() + t * stride);
        double sum = 0;
        for (float value : row)
          sum += (double)value * value;
        for (int j = 0; j < c.width; ++j)
          want[t * stride + j] = row[j] / std::sqrt(sum / c.width + c.eps) *
                                 (weight[j] + (c.plusOne ? 1.0 : 0.0));
      }
      Floats one = poison(tokens * stride);
      runTeam(c.run, {x.data(), weight.data(), one.data()}, 1, tokens, 0, 0, 0);
      EXPECT_LT(relativeError(one, want), 1e-6) << c.width;
      for (int threads : {2, 3}) {
        Floats out = poison(tokens * stride);
        runTeam(c.run, {x.data(), weight.data(), out.data()}, threads, tokens,
                0, 0, 0);
        EXPECT_TRUE(sameBits(out, one));
      }
    }
  }
}

LATHE_INSTANTIATE_MIXER_TEST(AttentionTest);

} // namespace
