// Each eval against numbers worked out by hand, or against a closed form
// written another way. Policy: ir/SPEC.md, "Test policy".

#include "tests/ir/reference/ReferenceTest.h"
#include "runtime/base/Float.h"

#include <complex>

namespace lathe::reference {
namespace {

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
  table.data.pop_back();
  auto cut = runModule("func.func @f(%w: " + type + ") { return }", {&table});
  EXPECT_FALSE(cut.ok());
}

} // namespace
} // namespace lathe::reference
