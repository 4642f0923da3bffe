// Each eval against numbers worked out by hand, or against a closed form
// written another way. Policy: ir/SPEC.md, "Test policy".

#include "ir/graph/Graph.h"
#include "ir/kernel/Kernel.h"
#include "ir/reference/Interpreter.h"
#include "runtime/base/Float.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"

#include <cmath>
#include <complex>
#include <map>
#include <random>

namespace lathe::reference {
namespace {

struct FakeWeights : WeightProvider {
  std::map<std::string, HostWeight, std::less<>> weights;
  std::map<std::string, Tensor, std::less<>> tensors;

  StatusOr<const HostWeight *> weight(std::string_view name,
                                      const WeightDesc &) override {
    auto it = weights.find(name);
    if (it == weights.end())
      return modelError("no such weight");
    return &it->second;
  }

  StatusOr<Tensor> tensor(std::string_view name,
                          llvm::ArrayRef<int64_t>) override {
    auto it = tensors.find(name);
    if (it == tensors.end())
      return modelError("no such tensor");
    return it->second;
  }
};

class ReferenceTest : public testing::Test {
protected:
  ReferenceTest() {
    context.loadDialect<graph::GraphDialect, kernel::KernelDialect,
                        mlir::func::FuncDialect>();
  }

  /// Runs @f of a module.
  StatusOr<std::vector<Value>> runModule(const std::string &text,
                                         std::vector<Value> args) {
    module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    if (!module)
      return modelError("the test's module does not parse");
    return run(module->lookupSymbol<mlir::FunctionOpInterface>("f"),
               std::move(args), weights);
  }

  /// Runs one operation: `params` are the function's parameters, `types` its
  /// result types, all of which the operation returns.
  std::vector<Value> evaluate(const std::string &params, const std::string &op,
                              const std::vector<std::string> &types,
                              std::vector<Value> args) {
    std::string names, list;
    for (size_t i = 0; i < types.size(); ++i) {
      names += (i ? ", %r" : "%r") + std::to_string(i);
      list += (i ? ", " : "") + types[i];
    }
    auto results =
        runModule("func.func @f(" + params + ") -> (" + list + ") {\n" + names +
                      " = " + op + "\nreturn " + names + " : " + list + "\n}",
                  std::move(args));
    EXPECT_TRUE(results.ok()) << results.status();
    return results.ok() ? *results : std::vector<Value>(types.size());
  }

  Tensor evaluateOne(const std::string &params, const std::string &op,
                     const std::string &type, std::vector<Value> args) {
    return std::get<Tensor>(
        evaluate(params, op, {type}, std::move(args)).front());
  }

  Tensor random(int64_t rows, int64_t cols) {
    std::normal_distribution<float> normal;
    Tensor x(rows, cols);
    for (float &value : x.data)
      value = normal(generator);
    return x;
  }

  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  FakeWeights weights;
  std::mt19937 generator{1};
};

void expectNear(const std::vector<float> &found,
                const std::vector<double> &expected, double tolerance = 1e-6) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(found[i], expected[i],
                tolerance * std::fmax(1, std::fabs(expected[i])))
        << "at " << i;
}

Tensor rowsOf(const Tensor &x, int64_t begin, int64_t end) {
  return {end - begin, x.cols, {x.row(begin), x.row(end)}};
}

//===----------------------------------------------------------------------===//
// Elementwise and shape
//===----------------------------------------------------------------------===//

TEST_F(ReferenceTest, Unary) {
  Tensor x(2, 2, {0, 1, -1, 100});
  // sigmoid(x) = (1 + tanh(x/2)) / 2
  auto half = [](double v) { return (1 + std::tanh(v / 2)) / 2; };
  Tensor sigmoid =
      evaluateOne("%x: tensor<?x2xf32>", "graph.sigmoid %x : tensor<?x2xf32>",
                  "tensor<?x2xf32>", {x});
  expectNear(sigmoid.data, {0.5, half(1), half(-1), 1});
  Tensor silu =
      evaluateOne("%x: tensor<?x2xf32>", "graph.silu %x : tensor<?x2xf32>",
                  "tensor<?x2xf32>", {x});
  expectNear(silu.data, {0, half(1), -half(-1), 100});
}

TEST_F(ReferenceTest, SigmoidSaturates) {
  Tensor x(1, 2, {-1e4f, 1e4f});
  Tensor y =
      evaluateOne("%x: tensor<?x2xf32>", "graph.silu %x : tensor<?x2xf32>",
                  "tensor<?x2xf32>", {x});
  expectNear(y.data, {0, 1e4});
}

TEST_F(ReferenceTest, Binary) {
  std::string params = "%a: tensor<?x2xf32>, %b: tensor<?x2xf32>";
  std::string type = "tensor<?x2xf32>";
  Tensor a(1, 2, {2, -3}), b(1, 2, {5, 0.5f});
  auto result = [&](const std::string &name) {
    return evaluateOne(params, "graph." + name + " %a, %b : " + type, type,
                       {a, b})
        .data;
  };
  expectNear(result("add"), {7, -2.5});
  expectNear(result("mul"), {10, -1.5});
  expectNear(result("swiglu"),
             {5 * 2 / (1 + std::exp(-2)), 0.5 * -3 / (1 + std::exp(3))});
}

TEST_F(ReferenceTest, SliceTakesFromEveryGroup) {
  Tensor x(2, 6, {0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15});
  Tensor y = evaluateOne("%x: tensor<?x6xf32>",
                         "graph.slice %x group 3 offset 1 size 2 : "
                         "tensor<?x6xf32> -> tensor<?x4xf32>",
                         "tensor<?x4xf32>", {x});
  expectNear(y.data, {1, 2, 4, 5, 11, 12, 14, 15});
}

TEST_F(ReferenceTest, ConcatJoinsRows) {
  Tensor a(2, 1, {1, 2}), b(2, 2, {3, 4, 5, 6});
  Tensor y =
      evaluateOne("%a: tensor<?x1xf32>, %b: tensor<?x2xf32>",
                  "graph.concat %a, %b : tensor<?x1xf32>, tensor<?x2xf32> "
                  "-> tensor<?x3xf32>",
                  "tensor<?x3xf32>", {a, b});
  expectNear(y.data, {1, 3, 4, 2, 5, 6});
}

//===----------------------------------------------------------------------===//
// Normalisation and position
//===----------------------------------------------------------------------===//

TEST_F(ReferenceTest, RmsNorm) {
  // Groups (3, 4) and (0, 0): mean squares 12.5 and 0; eps 12.5 makes the
  // first factor 1/5.
  Tensor x(1, 4, {3, 4, 0, 0}), w(1, 2, {1, -0.5f});
  std::string params = "%x: tensor<?x4xf32>, %w: tensor<2xf32>";
  std::string types = " : tensor<?x4xf32>, tensor<2xf32>";
  Tensor plain = evaluateOne(params, "graph.rms_norm %x, %w eps 12.5" + types,
                             "tensor<?x4xf32>", {x, w});
  expectNear(plain.data, {0.6, -0.4, 0, 0});
  Tensor plusOne =
      evaluateOne(params, "graph.rms_norm %x, %w eps 12.5 plus_one" + types,
                  "tensor<?x4xf32>", {x, w});
  expectNear(plusOne.data, {1.2, 0.4, 0, 0});
}

TEST_F(ReferenceTest, L2NormAddsEpsToTheSum) {
  Tensor x(1, 4, {3, 4, 0, 2});
  Tensor y = evaluateOne(
      "%x: tensor<?x4xf32>",
      "graph.l2_norm %x group 2 eps 11.0 scale 3.0 : tensor<?x4xf32>",
      "tensor<?x4xf32>", {x});
  expectNear(y.data, {1.5, 2, 0, 6 / std::sqrt(15)});
}

TEST_F(ReferenceTest, RopeIsComplexMultiplication) {
  // Two heads of 6 columns, of which 4 turn.
  Tensor x = random(3, 12);
  Tensor y = evaluateOne("%x: tensor<?x12xf32>, %p: index",
                         "graph.rope %x at %p head_dim 6 rotary_dim 4 "
                         "theta 100.0 : tensor<?x12xf32>",
                         "tensor<?x12xf32>", {x, int64_t(5)});
  for (int64_t t = 0; t < 3; ++t)
    for (int64_t h = 0; h < 12; h += 6) {
      const float *in = x.row(t) + h, *out = y.row(t) + h;
      for (int i = 0; i < 2; ++i) {
        double frequency = i == 0 ? 1 : 0.1;
        auto turned = std::complex<double>(in[i], in[i + 2]) *
                      std::polar(1.0, double(5 + t) * frequency);
        EXPECT_NEAR(out[i], turned.real(), 1e-6);
        EXPECT_NEAR(out[i + 2], turned.imag(), 1e-6);
      }
      EXPECT_EQ(out[4], in[4]);
      EXPECT_EQ(out[5], in[5]);
    }
}

//===----------------------------------------------------------------------===//
// Linear algebra
//===----------------------------------------------------------------------===//

HostWeight denseF32(int64_t rows, int64_t cols,
                    const std::vector<float> &values) {
  HostWeight weight;
  weight.desc = {WeightFormat::F32, rows, cols};
  auto *bytes = reinterpret_cast<const uint8_t *>(values.data());
  weight.data.assign(bytes, bytes + values.size() * sizeof(float));
  return weight;
}

TEST_F(ReferenceTest, EmbeddingPicksRows) {
  HostWeight table = denseF32(3, 2, {0, 1, 10, 11, 20, 21});
  Tensor y = evaluateOne(
      "%t: tensor<?xi32>, %w: !graph.weight<3x2, f32>",
      "graph.embedding %t, %w : tensor<?xi32>, !graph.weight<3x2, f32> "
      "-> tensor<?x2xf32>",
      "tensor<?x2xf32>", {Tokens{2, 0, 2}, &table});
  expectNear(y.data, {20, 21, 0, 1, 20, 21});
}

TEST_F(ReferenceTest, LinearF32AndBf16) {
  Tensor x(2, 2, {1, 2, -1, 0.5f});
  HostWeight dense = denseF32(3, 2, {1, 0, 0, 1, 3, -4});
  HostWeight half;
  half.desc = {WeightFormat::BF16, 3, 2};
  for (float value : {1.f, 0.f, 0.f, 1.f, 3.f, -4.f}) {
    half.data.push_back(uint8_t(floatToBf16(value) & 255));
    half.data.push_back(uint8_t(floatToBf16(value) >> 8));
  }
  for (auto [format, weight] :
       {std::pair{"f32", &dense}, std::pair{"bf16", &half}}) {
    std::string type = "!graph.weight<3x2, " + std::string(format) + ">";
    Tensor y = evaluateOne("%x: tensor<?x2xf32>, %w: " + type,
                           "graph.linear %x, %w : tensor<?x2xf32>, " + type +
                               " -> tensor<?x3xf32>",
                           "tensor<?x3xf32>",
                           {x, static_cast<const HostWeight *>(weight)});
    expectNear(y.data, {1, 2, -5, -1, 0.5, -5});
  }
}

/// Two rows of 32 columns whose codes are 0, 1, ... 15, 0, 1, ... 15.
std::vector<uint8_t> countingCodes() {
  std::vector<uint8_t> data;
  for (int i = 0; i < 32; ++i)
    data.push_back(uint8_t((2 * i & 15) | ((2 * i + 1) & 15) << 4));
  return data;
}

TEST_F(ReferenceTest, LinearInt4) {
  HostWeight weight;
  weight.desc = {WeightFormat::Int4, 2, 32, 16, true};
  weight.data = countingCodes();
  weight.scales = {floatToF16(1), floatToF16(0.5f), floatToF16(-2),
                   floatToF16(0.25f)};
  weight.zeros = {8, 0, 15, 7};
  Tensor x = random(2, 32);
  std::string type = "!graph.weight<2x32, int4_asym, 16>";
  Tensor y = evaluateOne("%x: tensor<?x32xf32>, %w: " + type,
                         "graph.linear %x, %w : tensor<?x32xf32>, " + type +
                             " -> tensor<?x2xf32>",
                         "tensor<?x2xf32>", {x, &weight});
  std::vector<double> expected;
  for (int64_t t = 0; t < 2; ++t) {
    double row[2] = {0, 0};
    for (int i = 0; i < 16; ++i) {
      row[0] += 1.0 * (i - 8) * x.row(t)[i] + 0.5 * i * x.row(t)[16 + i];
      row[1] +=
          -2.0 * (i - 15) * x.row(t)[i] + 0.25 * (i - 7) * x.row(t)[16 + i];
    }
    expected.insert(expected.end(), row, row + 2);
  }
  expectNear(y.data, expected);
}

TEST_F(ReferenceTest, LinearNvFp4) {
  HostWeight weight;
  weight.desc = {WeightFormat::NvFp4, 2, 32, 16};
  weight.data = countingCodes();
  weight.blockScales = {0x38, 0x40, 0x30, 0x44}; // 1, 2, 0.5, 3
  weight.globalScale = 0.25f;
  const double kValues[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  const double kScales[4] = {0.25, 0.5, 0.125, 0.75};
  Tensor x = random(1, 32);
  std::string type = "!graph.weight<2x32, nvfp4>";
  Tensor y = evaluateOne("%x: tensor<?x32xf32>, %w: " + type,
                         "graph.linear %x, %w : tensor<?x32xf32>, " + type +
                             " -> tensor<?x2xf32>",
                         "tensor<?x2xf32>", {x, &weight});
  std::vector<double> expected(2);
  for (int n = 0; n < 2; ++n)
    for (int i = 0; i < 32; ++i) {
      double value = kValues[i & 7] * (i & 8 ? -1 : 1);
      expected[n] += value * kScales[2 * n + i / 16] * x.data[i];
    }
  expectNear(y.data, expected);
}

//===----------------------------------------------------------------------===//
// Mixers
//===----------------------------------------------------------------------===//

TEST_F(ReferenceTest, ShortConvByHand) {
  // One channel, two taps, history 10: sums 1*10+2*1, 1*1+2*(-3).
  auto results = evaluate(
      "%x: tensor<?x1xf32>, %w: tensor<1x2xf32>, %s: !graph.conv<1x1>",
      "graph.short_conv %x, %w, %s : tensor<?x1xf32>, tensor<1x2xf32>, "
      "!graph.conv<1x1>",
      {"tensor<?x1xf32>", "!graph.conv<1x1>"},
      {Tensor(2, 1, {1, -3}), Tensor(1, 2, {1, 2}), ConvState{{10}}});
  expectNear(std::get<Tensor>(results[0]).data,
             {12 / (1 + std::exp(-12)), -5 / (1 + std::exp(5))});
  expectNear(std::get<ConvState>(results[1]).data, {-3});
}

TEST_F(ReferenceTest, ShortConvKeepsOldHistory) {
  // One new token: two of the three remembered steps stay.
  auto results = evaluate(
      "%x: tensor<?x2xf32>, %w: tensor<2x4xf32>, %s: !graph.conv<3x2>",
      "graph.short_conv %x, %w, %s : tensor<?x2xf32>, tensor<2x4xf32>, "
      "!graph.conv<3x2>",
      {"tensor<?x2xf32>", "!graph.conv<3x2>"},
      {Tensor(1, 2, {7, 8}), Tensor(2, 4, {1, 0, 0, 0, 0, 0, 0, 1}),
       ConvState{{1, 2, 3, 4, 5, 6}}});
  expectNear(std::get<Tensor>(results[0]).data,
             {1 / (1 + std::exp(-1)), 8 / (1 + std::exp(-8))});
  expectNear(std::get<ConvState>(results[1]).data, {3, 4, 5, 6, 7, 8});
}

TEST_F(ReferenceTest, DeltaGates) {
  // softplus is log(1 + e^x), and x itself where e^x overflows a float.
  Tensor a(1, 2, {0.5f, 200}), b(1, 2, {0, 2});
  Tensor aLog(1, 2, {std::log(3.0f), 0}), dtBias(1, 2, {0.25f, 1});
  auto results = evaluate(
      "%a: tensor<?x2xf32>, %b: tensor<?x2xf32>, %l: tensor<2xf32>, "
      "%d: tensor<2xf32>",
      "graph.delta_gates %a, %b, %l, %d : tensor<?x2xf32>, tensor<2xf32>",
      {"tensor<?x2xf32>", "tensor<?x2xf32>"}, {a, b, aLog, dtBias});
  expectNear(std::get<Tensor>(results[0]).data,
             {-3 * std::log(1 + std::exp(0.75)), -201});
  expectNear(std::get<Tensor>(results[1]).data, {0.5, 1 / (1 + std::exp(-2))});
}

struct DeltaCase {
  Tensor q, k, v, decay, beta;
  RecurrentState state;
};

const char *const kDeltaParams =
    "%q: tensor<?x8xf32>, %k: tensor<?x8xf32>, %v: tensor<?x12xf32>, "
    "%g: tensor<?x4xf32>, %b: tensor<?x4xf32>, %s: !graph.recurrent<4x4x3>";
const char *const kDeltaOp =
    "graph.delta_rule %q, %k, %v, %g, %b, %s key_heads 2 : tensor<?x8xf32>, "
    "tensor<?x12xf32>, tensor<?x4xf32>, !graph.recurrent<4x4x3>";
const std::vector<std::string> kDeltaTypes = {"tensor<?x12xf32>",
                                              "!graph.recurrent<4x4x3>"};

/// The chunked form of the gated delta rule (arXiv 2412.06464) for value head
/// j of four, key head j / 2, in FP64; `state` is [4][3] and is updated.
std::vector<double> chunkedDelta(const DeltaCase &c, int j,
                                 std::vector<double> &state) {
  const int64_t T = c.v.rows, K = 4, V = 3, h = j / 2 * K;
  auto dot = [&](const Tensor &a, int64_t s, int64_t t) {
    double sum = 0;
    for (int64_t i = 0; i < K; ++i)
      sum += double(a.row(s)[h + i]) * c.k.row(t)[h + i];
    return sum;
  };
  // cumulative[t] = decay_0 + ... + decay_t.
  std::vector<double> cumulative(T);
  double total = 0;
  for (int64_t t = 0; t < T; ++t)
    cumulative[t] = total += c.decay.row(t)[j];
  auto between = [&](int64_t s, int64_t t) {
    return std::exp(cumulative[t] - cumulative[s]);
  };
  // Forward substitution of (I + L) delta = beta (v - e^G k S0).
  std::vector<double> delta(T * V), out(T * V);
  for (int64_t t = 0; t < T; ++t)
    for (int64_t n = 0; n < V; ++n) {
      double recalled = 0, read = 0;
      for (int64_t i = 0; i < K; ++i) {
        double old = std::exp(cumulative[t]) * state[i * V + n];
        recalled += c.k.row(t)[h + i] * old;
        read += c.q.row(t)[h + i] * old;
      }
      for (int64_t s = 0; s < t; ++s)
        recalled += dot(c.k, t, s) * between(s, t) * delta[s * V + n];
      delta[t * V + n] = c.beta.row(t)[j] * (c.v.row(t)[j * V + n] - recalled);
      for (int64_t s = 0; s <= t; ++s)
        read += dot(c.q, t, s) * between(s, t) * delta[s * V + n];
      out[t * V + n] = read;
    }
  for (int64_t i = 0; i < K; ++i)
    for (int64_t n = 0; n < V; ++n) {
      double &s = state[i * V + n];
      s *= std::exp(total);
      for (int64_t t = 0; t < T; ++t)
        s += c.k.row(t)[h + i] * between(t, T - 1) * delta[t * V + n];
    }
  return out;
}

TEST_F(ReferenceTest, DeltaRuleMatchesChunkedForm) {
  DeltaCase c{random(7, 8), random(7, 8), random(7, 12),
              random(7, 4), random(7, 4), {random(1, 48).data}};
  for (float &k : c.k.data)
    k *= 0.5f;
  for (float &g : c.decay.data)
    g = -std::fabs(g);
  for (float &b : c.beta.data)
    b = 1 / (1 + std::exp(-b));
  auto results = evaluate(kDeltaParams, kDeltaOp, kDeltaTypes,
                          {c.q, c.k, c.v, c.decay, c.beta, c.state});
  Tensor y = std::get<Tensor>(results[0]);
  auto next = std::get<RecurrentState>(results[1]).data;
  for (int j = 0; j < 4; ++j) {
    auto begin = c.state.data.begin() + j * 12;
    std::vector<double> state(begin, begin + 12);
    std::vector<double> out = chunkedDelta(c, j, state);
    std::vector<float> head;
    for (int64_t t = 0; t < 7; ++t)
      head.insert(head.end(), y.row(t) + j * 3, y.row(t) + j * 3 + 3);
    expectNear(head, out, 1e-5);
    expectNear({next.begin() + j * 12, next.begin() + j * 12 + 12}, state,
               1e-5);
  }
}

TEST_F(ReferenceTest, DeltaRuleDoesNotDependOnTheCut) {
  Tensor q = random(5, 8), v = random(5, 12), g = random(5, 4);
  Value state = initialState(graph::RecurrentType::get(&context, 4, 4, 3));
  auto part = [&](int64_t begin, int64_t end, Value from) {
    Tensor x = rowsOf(q, begin, end), gate = rowsOf(g, begin, end);
    return evaluate(kDeltaParams, kDeltaOp, kDeltaTypes,
                    {x, x, rowsOf(v, begin, end), gate, gate, from});
  };
  auto whole = part(0, 5, state);
  auto first = part(0, 2, state);
  auto second = part(2, 5, first[1]);
  EXPECT_EQ(std::get<RecurrentState>(whole[1]).data,
            std::get<RecurrentState>(second[1]).data);
  EXPECT_EQ(rowsOf(std::get<Tensor>(whole[0]), 2, 5).data,
            std::get<Tensor>(second[0]).data);
}

const char *const kAttentionParams =
    "%q: tensor<?x2xf32>, %k: tensor<?x1xf32>, %v: tensor<?x1xf32>, "
    "%s: !graph.kv<1x1>, %p: index";
const char *const kAttentionOp =
    "graph.attention %q, %k, %v, %s at %p scale 0.5 : tensor<?x2xf32>, "
    "tensor<?x1xf32>, !graph.kv<1x1>";
const std::vector<std::string> kAttentionTypes = {"tensor<?x2xf32>",
                                                  "!graph.kv<1x1>"};

TEST_F(ReferenceTest, AttentionOverTwoPositions) {
  // One kv head of one column, two query heads: the first token sees only
  // itself, the second weighs both by softmax(q k / 2).
  auto results = evaluate(kAttentionParams, kAttentionOp, kAttentionTypes,
                          {Tensor(2, 2, {9, 9, 2, -4}), Tensor(2, 1, {1, 3}),
                           Tensor(2, 1, {10, 20}), KvState{}, int64_t(0)});
  // Scores (1, 3) and (-2, -6): the weights of position 1 are 1/(1+e^-2) and
  // 1/(1+e^4).
  expectNear(
      std::get<Tensor>(results[0]).data,
      {10, 10, 10 + 10 / (1 + std::exp(-2)), 10 + 10 / (1 + std::exp(4))});
  expectNear(std::get<KvState>(results[1]).k, {1, 3});
  expectNear(std::get<KvState>(results[1]).v, {10, 20});
}

TEST_F(ReferenceTest, AttentionOverwritesRejectedPositions) {
  KvState cache{{1, 5, 6}, {10, 50, 60}};
  auto results = evaluate(kAttentionParams, kAttentionOp, kAttentionTypes,
                          {Tensor(1, 2, {2, -4}), Tensor(1, 1, {3}),
                           Tensor(1, 1, {20}), cache, int64_t(1)});
  expectNear(std::get<Tensor>(results[0]).data,
             {10 + 10 / (1 + std::exp(-2)), 10 + 10 / (1 + std::exp(4))});
  expectNear(std::get<KvState>(results[1]).k, {1, 3});
}

TEST_F(ReferenceTest, AttentionSharesKvHeads) {
  // Queries of zero average the values; heads 0, 1 read kv head 0.
  auto results = evaluate(
      "%q: tensor<?x8xf32>, %k: tensor<?x4xf32>, %s: !graph.kv<2x2>, %p: index",
      "graph.attention %q, %k, %k, %s at %p scale 1.0 : tensor<?x8xf32>, "
      "tensor<?x4xf32>, !graph.kv<2x2>",
      {"tensor<?x8xf32>", "!graph.kv<2x2>"},
      {Tensor(1, 8), Tensor(1, 4, {3, 5, 7, 9}),
       KvState{{1, 1, 1, 1}, {1, 1, 1, 1}}, int64_t(1)});
  expectNear(std::get<Tensor>(results[0]).data, {2, 3, 2, 3, 4, 5, 4, 5});
}

//===----------------------------------------------------------------------===//
// Interpreter
//===----------------------------------------------------------------------===//

TEST_F(ReferenceTest, LaunchRunsTheKernel) {
  weights.weights["w"] = denseF32(1, 2, {3, 4});
  weights.tensors["n"] = Tensor(1, 2, {1, 1});
  auto results = runModule(R"(
    kernel.func @k(%x: tensor<?x2xf32>, %n: tensor<2xf32>,
                   %w: !graph.weight<1x2, f32>) -> tensor<?x1xf32>
        attributes {anchor = #kernel.anchor<linear>} {
      %0 = graph.rms_norm %x, %n eps 1.0e-30
          : tensor<?x2xf32>, tensor<2xf32>
      %1 = graph.linear %0, %w
          : tensor<?x2xf32>, !graph.weight<1x2, f32> -> tensor<?x1xf32>
      kernel.return %1 : tensor<?x1xf32>
    }
    func.func @f(%x: tensor<?x2xf32>) -> tensor<?x1xf32> {
      %n = graph.weight "n" : tensor<2xf32>
      %w = graph.weight "w" : !graph.weight<1x2, f32>
      %0 = kernel.launch @k(%x, %n, %w)
          : (tensor<?x2xf32>, tensor<2xf32>, !graph.weight<1x2, f32>)
          -> tensor<?x1xf32>
      return %0 : tensor<?x1xf32>
    })",
                           {Tensor(1, 2, {7, -7})});
  ASSERT_TRUE(results.ok()) << results.status();
  expectNear(std::get<Tensor>(results->front()).data, {-1});
}

TEST_F(ReferenceTest, InitialStates) {
  EXPECT_TRUE(
      std::get<KvState>(initialState(graph::KvType::get(&context, 2, 4)))
          .k.empty());
  EXPECT_EQ(
      std::get<ConvState>(initialState(graph::ConvType::get(&context, 3, 2)))
          .data,
      std::vector<float>(6));
  EXPECT_EQ(std::get<RecurrentState>(
                initialState(graph::RecurrentType::get(&context, 2, 3, 4)))
                .data,
            std::vector<float>(24));
}

TEST_F(ReferenceTest, ErrorsNameTheOperation) {
  auto message = [&](const std::string &text, std::vector<Value> args) {
    return messageOf(runModule(text, std::move(args)).status());
  };
  EXPECT_EQ(message("func.func private @f()", {}),
            "@f: expected a body of one block");
  EXPECT_EQ(message("func.func @f(%x: tensor<?x2xf32>) { return }", {}),
            "@f: expected 1 arguments, found 0");
  EXPECT_EQ(
      message("func.func @f(%x: tensor<?x2xf32>) { return }", {Tensor(1, 3)}),
      "@f: an argument is not a tensor<?x2xf32> of 1 tokens");
  EXPECT_EQ(message("func.func @f(%x: tensor<?x2xf32>, %y: tensor<?x2xf32>) "
                    "{ return }",
                    {Tensor(1, 2), Tensor(2, 2)}),
            "@f: an argument is not a tensor<?x2xf32> of 1 tokens");
  EXPECT_EQ(message("func.func @f() { call @f() : () -> () return }", {}),
            "func.call: the reference has no such operation");
  EXPECT_EQ(message("func.func @f() { %0 = graph.weight \"w\" : "
                    "!graph.weight<2x2, f32> return }",
                    {}),
            "graph.weight: no such weight");
}

TEST_F(ReferenceTest, RunTimeValuesAreChecked) {
  HostWeight table = denseF32(2, 1, {1, 2});
  std::string type = "!graph.weight<2x1, f32>";
  auto unknown = runModule("func.func @f(%t: tensor<?xi32>, %w: " + type +
                               ") { %0 = graph.embedding %t, %w : "
                               "tensor<?xi32>, " +
                               type + " -> tensor<?x1xf32> return }",
                           {Tokens{0, 2}, &table});
  EXPECT_EQ(messageOf(unknown.status()),
            "graph.embedding: token 2 is not in the table of 2");
  auto gap = runModule(
      "func.func @f(" + std::string(kAttentionParams) +
          ") { %0, %1 = " + kAttentionOp + " return }",
      {Tensor(1, 2), Tensor(1, 1), Tensor(1, 1), KvState{}, int64_t(1)});
  EXPECT_EQ(messageOf(gap.status()), "graph.attention: position 1 leaves a gap "
                                     "after the 0 positions of the cache");
  table.data.pop_back();
  auto cut = runModule("func.func @f(%w: " + type + ") { return }", {&table});
  EXPECT_FALSE(cut.ok());
}

} // namespace
} // namespace lathe::reference
