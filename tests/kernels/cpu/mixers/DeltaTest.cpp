//===- DeltaTest.cpp - the Gated-DeltaNet kernels -------------------------===//
//
// deltaStep and deltaChunk against the recurrence written out in double
// precision, against each other, and across team sizes.
//
//===----------------------------------------------------------------------===//

#include "tests/kernels/cpu/mixers/DeltaProblem.h"

using namespace lathe::test;

namespace {

struct Reference {
  std::vector<double> out, state;
  Floats conv;
};

double silu(double x) { return x / (1 + std::exp(-x)); }

/// Conv and SiLU of every token: [tokens][channels].
std::vector<double> convolved(const Problem &p, Floats &conv) {
  const DeltaCase &c = p.shape;
  std::vector<double> y((size_t)p.tokens * p.channels);
  for (int t = 0; t < p.tokens; ++t)
    for (int ch = 0; ch < p.channels; ++ch) {
      double sum = 0;
      for (int j = 0; j < c.taps; ++j) {
        int at = t - (c.taps - 1) + j;
        double u = at < 0 ? p.conv[(at + c.taps - 1) * p.channels + ch]
                          : p.qkv[(size_t)at * p.channels + ch];
        sum += p.weight[j * p.channels + ch] * u;
      }
      y[(size_t)t * p.channels + ch] = silu(sum);
    }
  Floats all = p.conv;
  all.insert(all.end(), p.qkv.begin(), p.qkv.end());
  conv.assign(all.end() - p.conv.size(), all.end());
  return y;
}

std::vector<double> normalized(const double *x, int width, double scale) {
  double sum = 1e-6;
  for (int i = 0; i < width; ++i)
    sum += x[i] * x[i];
  std::vector<double> y(x, x + width);
  for (double &v : y)
    v *= scale / std::sqrt(sum);
  return y;
}

Reference reference(const Problem &p) {
  const DeltaCase &c = p.shape;
  Reference r;
  std::vector<double> y = convolved(p, r.conv);
  r.state.assign(p.state.begin(), p.state.end());
  r.out.resize((size_t)p.tokens * p.outWidth);
  int kK = c.keyDim, kV = c.valueDim, ratio = c.valueHeads / c.keyHeads;
  for (int t = 0; t < p.tokens; ++t)
    for (int h = 0; h < c.valueHeads; ++h) {
      const double *row = &y[(size_t)t * p.channels];
      auto q = normalized(row + h / ratio * kK, kK, c.qScale);
      auto k = normalized(row + (c.keyHeads + h / ratio) * kK, kK, 1);
      const double *v = row + 2 * c.keyHeads * kK + h * kV;
      double *s = &r.state[(size_t)h * kK * kV];
      size_t gate = (size_t)t * p.gateStride + h;
      double beta = 1 / (1 + std::exp(-(double)p.b[gate]));
      double x = (double)p.a[gate] + p.dtBias[h];
      double decay =
          std::exp(-std::exp((double)p.aLog[h]) * std::log1p(std::exp(x)));
      for (int i = 0; i < kK * kV; ++i)
        s[i] *= decay;
      for (int j = 0; j < kV; ++j) {
        double sk = 0, o = 0;
        for (int i = 0; i < kK; ++i)
          sk += s[i * kV + j] * k[i];
        double d = beta * (v[j] - sk);
        for (int i = 0; i < kK; ++i) {
          s[i * kV + j] += k[i] * d;
          o += s[i * kV + j] * q[i];
        }
        r.out[(size_t)t * p.outWidth + h * kV + j] = o;
      }
    }
  return r;
}

class DeltaTest : public MixerTest {
protected:
  template <class F> void forEachCase(F body) {
    for (int i = 0; i < GetParam()->deltaCount; ++i) {
      const DeltaCase &c = GetParam()->deltas[i];
      SCOPED_TRACE(testing::Message()
                   << c.keyHeads << "/" << c.valueHeads << " heads of "
                   << c.keyDim << " x " << c.valueDim << ", " << c.taps
                   << " taps, chunk " << c.chunk);
      body(c);
    }
  }
};

void expectMatches(const Result &got, const Reference &want) {
  EXPECT_LT(relativeError(got.out, want.out), 3e-6);
  EXPECT_LT(relativeError(got.state, want.state), 3e-6);
  EXPECT_TRUE(sameBits(got.conv, want.conv));
}

TEST_P(DeltaTest, StepMatchesTheRecurrence) {
  forEachCase([](const DeltaCase &c) {
    for (int tokens = 1; tokens <= 8; ++tokens) {
      Problem p(c, tokens, tokens);
      expectMatches(run(p, true, 1, tokens), reference(p));
    }
  });
}

TEST_P(DeltaTest, StepDoesNotDependOnTheNumberOfTokens) {
  forEachCase([](const DeltaCase &c) {
    Problem p(c, 8, 11);
    Result one = run(p, true, 1, 1);
    for (int batch = 2; batch <= 8; ++batch)
      EXPECT_TRUE(run(p, true, 1, batch) == one) << batch << " tokens";
  });
}

TEST_P(DeltaTest, ChunkMatchesTheRecurrenceAndTheStep) {
  forEachCase([](const DeltaCase &c) {
    for (int tokens : {1, 2, 3, 17, 63, 64, 65, 130}) {
      SCOPED_TRACE(testing::Message() << tokens << " tokens");
      Problem p(c, tokens, 100 + tokens);
      Result chunk = run(p, false, 1, tokens);
      expectMatches(chunk, reference(p));
      Result step = run(p, true, 1, 1);
      EXPECT_LT(relativeError(chunk.out, step.out), 1e-5);
      EXPECT_LT(relativeError(chunk.state, step.state), 1e-5);
      EXPECT_TRUE(sameBits(chunk.conv, step.conv));
    }
  });
}

TEST_P(DeltaTest, ChunksOfALongPromptCanBeLaunchedApart) {
  forEachCase([](const DeltaCase &c) {
    Problem p(c, 130, 7);
    Reference want = reference(p);
    for (int batch : {1, 50, 64})
      expectMatches(run(p, false, 2, batch), want);
  });
}

TEST_P(DeltaTest, TeamSizeChangesNoBit) {
  forEachCase([](const DeltaCase &c) {
    Problem few(c, 5, 21), many(c, 70, 22);
    Result step = run(few, true, 1, 5), chunk = run(many, false, 1, 70);
    for (int threads : {2, 3, 5}) {
      EXPECT_TRUE(run(few, true, threads, 5) == step) << threads;
      EXPECT_TRUE(run(many, false, threads, 70) == chunk) << threads;
    }
  });
}

TEST_P(DeltaTest, ExtremeGatesStayFinite) {
  forEachCase([](const DeltaCase &c) {
    Problem p(c, 130, 31);
    // Total forgetting, none, and both signs of a saturated beta.
    for (int t = 0; t < p.tokens; ++t)
      for (int h = 0; h < c.valueHeads; ++h) {
        p.a[t * p.gateStride + h] = t % 3 == 0 ? 60.0f : -80.0f;
        p.b[t * p.gateStride + h] = t % 2 == 0 ? 90.0f : -90.0f;
      }
    Reference want = reference(p);
    expectMatches(run(p, false, 1, 130), want);
    expectMatches(run(p, true, 1, 8), want);
  });
}

LATHE_INSTANTIATE_MIXER_TEST(DeltaTest);

} // namespace
