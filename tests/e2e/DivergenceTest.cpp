//===- DivergenceTest.cpp - how far the engine is from the definition -----===//
//
// Logits of the demo model on Python text, engine against the reference
// interpreter on the same INT4 weights: design 5.4 allows a mean KL divergence
// of 1e-4 and asks for 99.5 % agreement of the first choice.
//
//===----------------------------------------------------------------------===//

#include "tests/e2e/TestModel.h"

#include "runtime/io/tokenizer/Tokenizer.h"

#include "gtest/gtest.h"

#include <cmath>

namespace lathe::e2e {
namespace {

constexpr const char *kSource = R"(import os
import sys


class Account:
    """A bank account with a balance that cannot become negative."""

    def __init__(self, owner, balance=0):
        self.owner = owner
        self.balance = balance
        self.history = []

    def deposit(self, amount):
        if amount <= 0:
            raise ValueError("amount must be positive")
        self.balance += amount
        self.history.append(("deposit", amount))
        return self.balance

    def withdraw(self, amount):
        if amount > self.balance:
            raise ValueError("insufficient funds: %d" % self.balance)
        self.balance -= amount
        self.history.append(("withdraw", amount))
        return self.balance


def read_lines(path, encoding="utf-8"):
    with open(path, "r", encoding=encoding) as handle:
        for number, line in enumerate(handle, 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            yield number, line


def main(argv=None):
    for path in argv or sys.argv[1:]:
        if not os.path.exists(path):
            print("no such file:", path, file=sys.stderr)
            return 1
        for number, line in read_lines(path):
            print("%4d  %s" % (number, line))
    return 0
)";

constexpr size_t kPositions = 256;

const Ids &text() {
  static const Ids ids = [] {
    Tokenizer tokenizer =
        need(Tokenizer::load(LATHE_SOURCE_DIR "/models/demo/tokenizer.json"));
    Ids all = need(tokenizer.encode(kSource));
    all.resize(std::min(all.size(), kPositions));
    return all;
  }();
  return ids;
}

const Rows &referenceLogits() {
  static const Rows rows = ReferenceModel(demoModel()).logits(text());
  return rows;
}

/// The log of the sum of exponentials.
double logSumExp(const float *x, int64_t width) {
  double top = *std::max_element(x, x + width), sum = 0;
  for (int64_t i = 0; i < width; ++i)
    sum += std::exp(x[i] - top);
  return top + std::log(sum);
}

struct Divergence {
  double meanKl = 0, agreement = 0;
};

Divergence divergenceOf(const Rows &found) {
  const Rows &wanted = referenceLogits();
  Divergence d;
  for (int64_t t = 0; t < wanted.rows; ++t) {
    const float *p = wanted.row(t), *q = found.row(t);
    const double pSum = logSumExp(p, wanted.cols);
    const double qSum = logSumExp(q, wanted.cols);
    for (int64_t i = 0; i < wanted.cols; ++i)
      d.meanKl += std::exp(p[i] - pSum) * ((p[i] - pSum) - (q[i] - qSum));
    d.agreement += std::max_element(p, p + wanted.cols) - p ==
                   std::max_element(q, q + wanted.cols) - q;
  }
  d.meanKl /= double(wanted.rows);
  d.agreement /= double(wanted.rows);
  return d;
}

Divergence measure(const char *what, const Build &build, int64_t chunk) {
  const Rows found = logitsOf(*demoModel().engine(build, 2, chunk), text());
  const Divergence d = divergenceOf(found);
  std::printf("%s: mean KL %.3e, top-1 agreement %.2f %%, max abs %.2e over "
              "%d positions\n",
              what, d.meanKl, 100 * d.agreement,
              maxDifference(found.data, referenceLogits().data),
              int(found.rows));
  return d;
}

TEST(Divergence, TheTextIsLongEnough) { EXPECT_GE(text().size(), 200u); }

TEST(Divergence, DecodeIsWithinTheContract) {
  Divergence d = measure("decode", {}, 1);
  EXPECT_LT(d.meanKl, 1e-4);
  EXPECT_GE(d.agreement, 0.995);
}

TEST(Divergence, ExactPrefillIsWithinTheContract) {
  Divergence d = measure("prefill int15", {}, 256);
  EXPECT_LT(d.meanKl, 1e-4);
  EXPECT_GE(d.agreement, 0.995);
}

// Bytes behind the norms flip a near tie now and then: the contract's top-1
// agreement of 99.5 % is for int15, its divergence for both.
TEST(Divergence, DefaultPrefillKeepsTheDivergence) {
  Divergence d =
      measure("prefill mixed", {.form = "mixed", .decodeTokens = {1}}, 256);
  EXPECT_LT(d.meanKl, 1e-4);
}

// The fast form trades exactness for speed; a bound only for gross errors.
TEST(Divergence, FastPrefillIsReported) {
  Divergence d =
      measure("prefill int8", {.form = "int8", .decodeTokens = {1}}, 256);
  EXPECT_LT(d.meanKl, 0.1);
}

} // namespace
} // namespace lathe::e2e
