// The operations that carry a state, as ReferenceTest.cpp does.

#include "tests/ir/reference/ReferenceTest.h"

namespace lathe::reference {
namespace {

Tensor rowsOf(const Tensor &x, int64_t begin, int64_t end) {
  return {end - begin, x.cols, {x.row(begin), x.row(end)}};
}

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

TEST_F(ReferenceTest, ShortConvDoesNotDependOnTheCut) {
  Tensor x = random(5, 2), w = random(2, 4);
  auto part = [&](int64_t begin, int64_t end, Value from) {
    return evaluate(
        "%x: tensor<?x2xf32>, %w: tensor<2x4xf32>, %s: !graph.conv<3x2>",
        "graph.short_conv %x, %w, %s : tensor<?x2xf32>, tensor<2x4xf32>, "
        "!graph.conv<3x2>",
        {"tensor<?x2xf32>", "!graph.conv<3x2>"},
        {rowsOf(x, begin, end), w, from});
  };
  Value state = initialState(graph::ConvType::get(&context, 3, 2));
  auto whole = part(0, 5, state);
  auto second = part(2, 5, part(0, 2, state)[1]);
  EXPECT_EQ(std::get<ConvState>(whole[1]).data,
            std::get<ConvState>(second[1]).data);
  EXPECT_EQ(rowsOf(std::get<Tensor>(whole[0]), 2, 5).data,
            std::get<Tensor>(second[0]).data);
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

TEST_F(ReferenceTest, AttentionNeedsThePositionsBefore) {
  auto gap = runModule(
      "func.func @f(" + std::string(kAttentionParams) +
          ") { %0, %1 = " + kAttentionOp + " return }",
      {Tensor(1, 2), Tensor(1, 1), Tensor(1, 1), KvState{}, int64_t(1)});
  EXPECT_EQ(messageOf(gap.status()), "graph.attention: position 1 leaves a gap "
                                     "after the 0 positions of the cache");
}

TEST_F(ReferenceTest, AttentionDoesNotDependOnTheCut) {
  Tensor q = random(5, 2), k = random(5, 1), v = random(5, 1);
  auto part = [&](int64_t begin, int64_t end, Value from) {
    return evaluate(kAttentionParams, kAttentionOp, kAttentionTypes,
                    {rowsOf(q, begin, end), rowsOf(k, begin, end),
                     rowsOf(v, begin, end), from, begin});
  };
  auto whole = part(0, 5, KvState{});
  auto second = part(2, 5, part(0, 2, KvState{})[1]);
  EXPECT_EQ(std::get<KvState>(whole[1]).k, std::get<KvState>(second[1]).k);
  EXPECT_EQ(std::get<KvState>(whole[1]).v, std::get<KvState>(second[1]).v);
  EXPECT_EQ(rowsOf(std::get<Tensor>(whole[0]), 2, 5).data,
            std::get<Tensor>(second[0]).data);
}

} // namespace
} // namespace lathe::reference
