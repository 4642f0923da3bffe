//===- DeltaTest.cpp - the Gated-DeltaNet kernels for CUDA ----------------===//
//
// deltaStep and the two stages of the prefill, run by the emulator, against the
// recurrence written out in double precision, and against each other.
//
//===----------------------------------------------------------------------===//

#include "tests/kernels/cuda/DeltaProblem.h"

#include <cmath>

using namespace lathe::test;
using lathe::CudaDeltaShape;

namespace {

double silu(double x) { return x / (1 + std::exp(-x)); }

/// Inputs of the convolution from position `at` - (taps - 1) on.
double inputAt(Problem &p, int t, int channel) {
  return t < 0 ? p.ring(p.conv, p.position + t)[channel]
               : p.qkv[(size_t)t * p.channels + channel];
}

std::vector<double> normalized(const double *x, int width, double scale) {
  double sum = kEps;
  for (int i = 0; i < width; ++i)
    sum += x[i] * x[i];
  std::vector<double> y(x, x + width);
  for (double &v : y)
    v *= scale / std::sqrt(sum);
  return y;
}

struct Reference {
  std::vector<double> out, state;
};

/// The recurrence of one head and token.
void advance(const double *q, const double *k, const double *v, double beta,
             double decay, int kK, int kV, double *s, double *out) {
  for (int j = 0; j < kV; ++j) {
    double sk = 0, o = 0;
    for (int i = 0; i < kK; ++i)
      sk += decay * s[i * kV + j] * k[i];
    for (int i = 0; i < kK; ++i) {
      s[i * kV + j] = decay * s[i * kV + j] + k[i] * beta * (v[j] - sk);
      o += s[i * kV + j] * q[i];
    }
    out[j] = o;
  }
}

Reference reference(Problem &p) {
  const CudaDeltaShape &c = p.shape;
  Reference r{std::vector<double>((size_t)p.tokens * p.outStride),
              {p.state.begin(), p.state.end()}};
  int kK = c.keyDim, kV = c.valueDim;
  std::vector<double> row(p.channels);
  for (int t = 0; t < p.tokens; ++t) {
    for (int ch = 0; ch < p.channels; ++ch) {
      double sum = 0;
      for (int j = 0; j < c.taps; ++j)
        sum += (double)p.weight[j * p.channels + ch] *
               inputAt(p, t - (c.taps - 1) + j, ch);
      row[ch] = silu(sum);
    }
    for (int h = 0; h < c.valueHeads; ++h) {
      auto q = normalized(&row[h / c.ratio() * kK], kK, kScale);
      auto k = normalized(&row[(c.keyHeads + h / c.ratio()) * kK], kK, 1);
      size_t gate = (size_t)t * p.gateStride + h;
      double x = (double)p.a[gate] + p.dtBias[h];
      double softplus = x > 30 ? x : std::log1p(std::exp(x));
      advance(q.data(), k.data(), &row[2 * c.keyHeads * kK + h * kV],
              1 / (1 + std::exp(-(double)p.b[gate])),
              std::exp(-std::exp((double)p.aLog[h]) * softplus), kK, kV,
              &r.state[(size_t)h * kK * kV],
              &r.out[(size_t)t * p.outStride + h * kV]);
    }
  }
  return r;
}

/// The largest difference, against the largest value.
double relativeError(const Floats &got, const std::vector<double> &want) {
  double error = 0, scale = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (!(std::abs(got[i] - want[i]) <= error)) // or NaN
      error = std::isnan(got[i]) ? INFINITY : std::abs(got[i] - want[i]);
    scale = std::max(scale, std::abs(want[i]));
  }
  return error / scale;
}

void expectMatches(Problem &p, Result &got, const Reference &want,
                   double tolerance = 3e-6) {
  EXPECT_LT(relativeError(got.out, want.out), tolerance);
  EXPECT_LT(relativeError(got.state, want.state), tolerance);
  for (int j = 1; j < p.shape.taps; ++j)
    for (int ch = 0; ch < p.channels; ++ch)
      ASSERT_EQ(p.ring(got.conv, p.position + p.tokens - j)[ch],
                (float)inputAt(p, p.tokens - j, ch))
          << j << " before the end, channel " << ch;
}

class CudaDeltaTest : public testing::TestWithParam<int> {
protected:
  const Case &kernels = kCases[GetParam()];
};

TEST_P(CudaDeltaTest, StepMatchesTheRecurrence) {
  for (int tokens = 1; tokens <= 8; ++tokens)
    for (int position : {0, 1, 3, 37}) {
      SCOPED_TRACE(testing::Message() << tokens << " tokens at " << position);
      Problem p(kernels, tokens, position, tokens + position);
      Result got = run(p, false, tokens);
      expectMatches(p, got, reference(p));
    }
}

TEST_P(CudaDeltaTest, StepDoesNotDependOnTheNumberOfTokens) {
  Problem p(kernels, 8, 13, 11);
  Result one = run(p, false, 1);
  for (int batch = 2; batch <= 8; ++batch)
    EXPECT_TRUE(run(p, false, batch) == one) << batch << " tokens";
}

TEST_P(CudaDeltaTest, StepDoesNotDependOnTheOrder) {
  Problem p(kernels, 8, 29, 12);
  Result first = run(p, false, 5);
  for (auto order : emulator::kOrders)
    EXPECT_TRUE(run(p, false, 5, order) == first) << (int)order;
}

TEST_P(CudaDeltaTest, PrefillMatchesTheRecurrenceAndTheStep) {
  constexpr int kChunk = lathe::kDeltaChunk;
  for (int tokens :
       {1, 2, 7, 9, kChunk - 1, kChunk, kChunk + 1, 3 * kChunk + 5})
    for (int position : {0, 2, 37}) {
      SCOPED_TRACE(testing::Message() << tokens << " tokens at " << position);
      Problem p(kernels, tokens, position, 100 + tokens + position);
      Result got = run(p, true, tokens);
      expectMatches(p, got, reference(p));
      Result step = run(p, false, 8);
      std::vector<double> out(step.out.begin(), step.out.end());
      EXPECT_LT(relativeError(got.out, out), 3e-6);
    }
}

TEST_P(CudaDeltaTest, PrefillCanBeLaunchedInParts) {
  Problem p(kernels, 75, 21, 7);
  Reference want = reference(p);
  for (int batch : {3, 32, 40}) {
    Result got = run(p, true, batch, emulator::Order::kAscending, 100);
    expectMatches(p, got, want);
  }
}

TEST_P(CudaDeltaTest, PrefillDoesNotDependOnTheOrder) {
  Problem p(kernels, 70, 5, 12);
  Result first = run(p, true, 70);
  for (auto order : emulator::kOrders)
    EXPECT_TRUE(run(p, true, 70, order) == first) << (int)order;
}

TEST_P(CudaDeltaTest, ExtremeGatesStayFinite) {
  Problem p(kernels, 71, 9, 31);
  // Total forgetting, none, and both signs of a saturated beta.
  for (int t = 0; t < p.tokens; ++t)
    for (int h = 0; h < p.shape.valueHeads; ++h) {
      p.a[t * p.gateStride + h] = t % 3 == 0 ? 60.0f : -80.0f;
      p.b[t * p.gateStride + h] = t % 2 == 0 ? 90.0f : -90.0f;
    }
  Reference want = reference(p);
  Result prefill = run(p, true, 71), step = run(p, false, 8);
  expectMatches(p, prefill, want);
  expectMatches(p, step, want);
}

TEST_P(CudaDeltaTest, TheScaleOfValuesDoesNotMatter) {
  for (float scale : {1e-6f, 1e-3f, 1e5f}) {
    SCOPED_TRACE(scale);
    Problem p(kernels, 70, 40, 33);
    for (float &x : p.state)
      x *= scale;
    // Small inputs of SiLU give half of them, large ones themselves or nothing.
    for (int ch = p.channels - p.outWidth; ch < p.channels; ++ch)
      for (int j = 0; j < p.shape.taps; ++j)
        p.weight[j * p.channels + ch] *= scale;
    Reference want = reference(p);
    Result prefill = run(p, true, 70);
    expectMatches(p, prefill, want);
  }
}

TEST_P(CudaDeltaTest, KeysThatAreAllAlike) {
  // Nothing decays and all is written: the chunk's triangular system is full.
  Problem p(kernels, 70, 0, 35);
  for (int t = 0; t < p.tokens; ++t) {
    std::fill_n(&p.a[t * p.gateStride], p.shape.valueHeads, -80.0f);
    std::fill_n(&p.b[t * p.gateStride], p.shape.valueHeads, 9.0f);
    for (int ch = 0; ch < p.channels - p.outWidth; ++ch)
      p.qkv[(size_t)t * p.channels + ch] = p.qkv[ch] * (t % 7 < 5 ? 1 : -1);
  }
  Reference want = reference(p);
  Result prefill = run(p, true, 70), step = run(p, false, 8);
  expectMatches(p, prefill, want);
  expectMatches(p, step, want);
}

TEST_P(CudaDeltaTest, NothingButZeros) {
  Problem p(kernels, 35, 0, 36);
  for (Floats *x : {&p.qkv, &p.state})
    std::fill(x->begin(), x->end(), 0.0f);
  for (const Result &got : {run(p, true, 35), run(p, false, 8)}) {
    for (int t = 0; t < p.tokens; ++t)
      for (int i = 0; i < p.outWidth; ++i)
        ASSERT_EQ(got.out[(size_t)t * p.outStride + i], 0.0f);
    for (float x : got.state)
      ASSERT_EQ(x, 0.0f);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CudaDeltaTest,
                         testing::Range(0, (int)std::size(kCases)));

} // namespace
