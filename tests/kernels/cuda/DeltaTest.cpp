//===- DeltaTest.cpp - the Gated-DeltaNet kernels for CUDA ----------------===//
//
// deltaStep and the two stages of the prefill, run by the emulator, against the
// recurrence written out in double precision, and against each other.
//
//===----------------------------------------------------------------------===//

#include "tests/kernels/cuda/emulator/intrinsics.h"

#include "compiler/device/cuda/delta_prefill.cuh"
#include "compiler/device/cuda/delta_step.cuh"
#include "tests/kernels/cuda/emulator/Emulator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

using lathe::CudaDeltaShape;
using Floats = std::vector<float>;

namespace {

struct Operands {
  const float *qkv, *a, *b, *weight, *aLog, *dtBias;
  float *conv, *state, *out;
};
using Entry = void (*)(const LatheLaunch &, const Operands &);

constexpr float kEps = 1e-6f, kScale = 0.3f;

template <int kHk, int kHv, int kK, int kV, int kJ, int kT> struct Config {
  static constexpr int kKeyHeads = kHk, kValueHeads = kHv;
  static constexpr int kKeyDim = kK, kValueDim = kV, kTaps = kJ;
  static constexpr float kQkEps = kEps, kQScale = kScale;
  static constexpr int kChunk = lathe::kDeltaChunk, kTokens = kT;
};

#define LATHE_DELTA_ENTRY(name, function)                                      \
  template <class Cfg> void name(const LatheLaunch &ctx, const Operands &o) {  \
    lathe::function<Cfg>(ctx, o.qkv, o.a, o.b, o.weight, o.aLog, o.dtBias,     \
                         o.conv, o.state, o.out);                              \
  }
LATHE_DELTA_ENTRY(stepEntry, deltaStep)
LATHE_DELTA_ENTRY(prepareEntry, deltaPrepare)
LATHE_DELTA_ENTRY(scanEntry, deltaScan)

struct Case {
  CudaDeltaShape shape;
  Entry step[8], prepare, scan;
};
template <int kHk, int kHv, int kK, int kV, int kJ> Case makeCase() {
  return {{kHk, kHv, kK, kV, kJ},
          {stepEntry<Config<kHk, kHv, kK, kV, kJ, 1>>,
           stepEntry<Config<kHk, kHv, kK, kV, kJ, 2>>,
           stepEntry<Config<kHk, kHv, kK, kV, kJ, 3>>,
           stepEntry<Config<kHk, kHv, kK, kV, kJ, 4>>,
           stepEntry<Config<kHk, kHv, kK, kV, kJ, 5>>,
           stepEntry<Config<kHk, kHv, kK, kV, kJ, 6>>,
           stepEntry<Config<kHk, kHv, kK, kV, kJ, 7>>,
           stepEntry<Config<kHk, kHv, kK, kV, kJ, 8>>},
          prepareEntry<Config<kHk, kHv, kK, kV, kJ, 0>>,
          scanEntry<Config<kHk, kHv, kK, kV, kJ, 0>>};
}
const Case kCases[] = {
    makeCase<2, 4, 16, 32, 4>(),   makeCase<1, 3, 32, 48, 2>(),
    makeCase<1, 1, 128, 128, 4>(), makeCase<2, 2, 48, 16, 8>(),
    makeCase<1, 2, 144, 32, 3>(), // an odd number of key tiles in two parts
    makeCase<1, 1, 256, 64, 5>(),
};

Floats poison(size_t count) {
  return Floats(count, std::numeric_limits<float>::quiet_NaN());
}
bool sameBits(const Floats &a, const Floats &b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}
int padded(int width) { return (width + 15) / 16 * 16; }

/// Inputs of `tokens` tokens from `position` on, and the state they start from.
struct Problem {
  const Case &kernels;
  CudaDeltaShape shape;
  int tokens, position, channels, gateStride, outWidth, outStride;
  Floats qkv, a, b, weight, aLog, dtBias, conv, state;
  std::mt19937 engine;

  void fill(Floats &x, size_t count, float scale, float mean = 0.0f) {
    std::normal_distribution<float> draw(mean, scale);
    x.resize(count);
    for (float &value : x)
      value = draw(engine);
  }
  Floats gateRows() {
    Floats all = poison((size_t)tokens * gateStride), row;
    for (int t = 0; t < tokens; ++t) {
      fill(row, shape.valueHeads, 2.0f);
      std::copy(row.begin(), row.end(), all.begin() + t * gateStride);
    }
    return all;
  }
  /// The ring row of a position.
  float *ring(Floats &all, int at) const {
    return &all[(size_t)(at + 16 * LATHE_CONV_RING) % LATHE_CONV_RING *
                channels];
  }

  Problem(const Case &c, int tokens, int position, unsigned seed)
      : kernels(c), shape(c.shape), tokens(tokens), position(position),
        channels(c.shape.channels()), gateStride(padded(c.shape.valueHeads)),
        outWidth(c.shape.valueHeads * c.shape.valueDim),
        outStride(padded(outWidth)), engine(seed) {
    fill(qkv, (size_t)tokens * channels, 1.0f);
    a = gateRows();
    b = gateRows();
    fill(weight, (size_t)shape.taps * channels, 0.5f);
    fill(aLog, shape.valueHeads, 1.0f);
    fill(dtBias, shape.valueHeads, 1.0f, -1.0f);
    fill(state, (size_t)shape.valueHeads * shape.keyDim * shape.valueDim, 0.3f);
    // Rows that no position in reach uses must not be read.
    conv = poison((size_t)LATHE_CONV_RING * channels);
    for (int j = 1; j < shape.taps; ++j) {
      Floats row(channels, 0.0f);
      if (position >= j)
        fill(row, channels, 1.0f);
      std::copy(row.begin(), row.end(), ring(conv, position - j));
    }
  }
};

struct Result {
  Floats out, conv, state;
  bool operator==(const Result &o) const {
    return sameBits(out, o.out) && sameBits(conv, o.conv) &&
           sameBits(state, o.state);
  }
};

/// Rows [t, t + count), with nothing readable behind them.
Floats rowsOf(const Floats &all, int width, int t, int count) {
  Floats part = poison((size_t)(count + 1) * width);
  std::copy_n(all.begin() + (size_t)t * width, (size_t)count * width,
              part.begin());
  return part;
}

/// Runs tokens in launches of `batch`; the last may be shorter. With `prefill`
/// the launches are sized for `maxTokens`.
Result run(const Problem &p, bool prefill, int batch,
           emulator::Order order = emulator::Order::kAscending,
           int maxTokens = 0) {
  const CudaDeltaShape &s = p.shape;
  Result r{poison((size_t)p.tokens * p.outStride), p.conv, p.state};
  for (int t = 0; t < p.tokens; t += batch) {
    int count = std::min(batch, p.tokens - t);
    int limit = std::max(count, maxTokens);
    Floats qkv = rowsOf(p.qkv, p.channels, t, count),
           a = rowsOf(p.a, p.gateStride, t, count),
           b = rowsOf(p.b, p.gateStride, t, count);
    Operands o{qkv.data(),
               a.data(),
               b.data(),
               p.weight.data(),
               p.aLog.data(),
               p.dtBias.data(),
               r.conv.data(),
               r.state.data(),
               r.out.data() + (size_t)t * p.outStride};
    LatheStep step{p.position + t, count};
    constexpr size_t kGuard = 256;
    size_t scratchBytes = prefill ? lathe::deltaScratch(s, limit) : 0;
    std::vector<char> memory(scratchBytes + 2 * kGuard, (char)0xff);
    char *scratch = memory.data() + kGuard - (size_t)memory.data() % kGuard;
    LatheLaunch ctx{&step, scratch, nullptr, 0};
    auto launch = [&](Entry entry, int blocks, int threads, int shared) {
      emulator::runGrid({blocks, 1, threads, shared, order, 5},
                        [&] { entry(ctx, o); });
    };
    if (!prefill) {
      launch(p.kernels.step[count - 1], lathe::deltaStepBlocks(s),
             lathe::kDeltaStepThreads, lathe::deltaStepShared(s, count));
      continue;
    }
    launch(p.kernels.prepare, lathe::deltaPrepareBlocks(s, limit),
           lathe::kDeltaPrepareThreads, lathe::deltaPrepareShared(s));
    launch(p.kernels.scan, lathe::deltaScanBlocks(s),
           lathe::deltaScanThreads(s), lathe::deltaScanShared(s));
    for (char *end = scratch + scratchBytes;
         end < memory.data() + memory.size(); ++end)
      if (*end != (char)0xff) {
        ADD_FAILURE() << "wrote beyond the scratch";
        break;
      }
  }
  return r;
}

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

INSTANTIATE_TEST_SUITE_P(Shapes, CudaDeltaTest,
                         testing::Range(0, (int)std::size(kCases)));

} // namespace
