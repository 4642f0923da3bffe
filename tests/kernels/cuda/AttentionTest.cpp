//===- AttentionTest.cpp - attention on the emulator ----------------------===//
//
// Decoding and prefill against attention in double precision; decoding several
// tokens at once against one by one, and over different numbers of blocks, bit
// for bit; sine and cosine up to the largest position.
//
//===----------------------------------------------------------------------===//

#include "tests/kernels/cuda/emulator/intrinsics.h"

#include "compiler/device/cuda/attention_decode.cuh"
#include "compiler/device/cuda/attention_prefill.cuh"
#include "tests/kernels/cuda/AttentionSequence.h"
#include "tests/kernels/cuda/emulator/Emulator.h"

#include <algorithm>
#include <utility>

namespace {

using emulator::Order;
using lathe::u16;
using namespace lathe::test;

/// Decodes Cfg::kTokens tokens from token `first` on; the sequence's own
/// configuration may have another number of tokens or blocks.
template <class Cfg, class Other>
void decode(Sequence<Other> &s, int first, Order order) {
  constexpr auto kShape = lathe::DecodePlan<Cfg>::kShape;
  LatheStep step{s.position + first, Cfg::kTokens};
  auto scratch = poison<float>(kShape.scratchBytes(s.capacity) / 4);
  LatheLaunch ctx{&step, (char *)scratch.data(), nullptr, s.capacity};
  auto o = s.args(first);
  lathe::AttentionArgs<Cfg> args{o.q,     o.k,    o.v,      o.qNorm,
                                 o.kNorm, o.keys, o.values, o.out};
  emulator::runGrid({.gridX = Cfg::kBlocks,
                     .threads = kShape.threads(),
                     .sharedBytes = kShape.sharedBytes(),
                     .order = order},
                    [&] { lathe::attentionDecodeRanges<Cfg>(ctx, args); });
  emulator::runGrid({.gridX = Cfg::kHeads * kShape.combineParts(),
                     .gridY = Cfg::kTokens,
                     .threads = kShape.combineThreads(),
                     .sharedBytes = kShape.combineSharedBytes(),
                     .order = order},
                    [&] { lathe::attentionDecodeCombine<Cfg>(ctx, args); });
}

/// The tokens in launches of `chunk`, over grids made for `most` tokens.
template <class Cfg>
void prefill(Sequence<Cfg> &s, int chunk, int most, Order order) {
  constexpr lathe::AttentionPrefillShape kShape{
      lathe::AttentionDims<Cfg>::kShape};
  for (int first = 0; first < s.tokens; first += chunk) {
    LatheStep step{s.position + first, std::min(chunk, s.tokens - first)};
    LatheLaunch ctx{&step, nullptr, nullptr, s.capacity};
    auto args = s.args(first);
    emulator::runGrid({.gridX = Cfg::kKvHeads,
                       .gridY = lathe::ceilDiv(most, 8),
                       .threads = kShape.appendThreads(),
                       .order = order},
                      [&] { lathe::attentionPrefillAppend<Cfg>(ctx, args); });
    emulator::runGrid({.gridX = Cfg::kKvHeads,
                       .gridY = lathe::ceilDiv(most, kShape.tokensPerBlock()),
                       .threads = kShape.threads(),
                       .sharedBytes = kShape.sharedBytes(),
                       .order = order},
                      [&] { lathe::attentionPrefillTiles<Cfg>(ctx, args); });
  }
}

/// Of weighted means of values whose deviation is 1; the scores' is up to 10.
constexpr double kDecodeError = 1e-5;

/// T tokens at once, checked, and against launches of one token and against
/// other numbers of blocks.
template <class Cfg, int T> void checkDecode(int position, double tolerance) {
  using Many = typename Cfg::template With<T>;
  SCOPED_TRACE(testing::Message() << T << " tokens at " << position);
  Sequence<Cfg> fresh(position, T), s = fresh, single = fresh, few = fresh,
                                    ahead = fresh;
  decode<Many>(s, 0, Order::kAscending);
  check(s, tolerance);
  for (int t = 0; t < T; ++t)
    decode<typename Cfg::template With<1>>(single, t, Order::kDescending);
  EXPECT_TRUE(s == single) << "differs from one token at a time";
  decode<typename Cfg::template With<T, 64, 2>>(few, 0, Order::kShuffled);
  EXPECT_TRUE(s == few) << "differs when runs are split";
  decode<typename Cfg::template With<T, Cfg::kBlocks, 3>>(ahead, 0,
                                                          Order::kDescending);
  EXPECT_TRUE(s == ahead) << "differs when more is read ahead";
}

/// Positions around the ends of leaves and runs.
template <class Cfg, int T> void checkPositions() {
  const int leaf = 128 / sizeof(typename Cfg::Kv);
  for (int position : {0, 1, leaf - 1, leaf, 3 * leaf + 5, 4 * leaf - 2})
    checkDecode<Cfg, T>(position, kDecodeError);
}

template <class Cfg> void checkPrefill(int position, int tokens) {
  SCOPED_TRACE(testing::Message() << tokens << " tokens at " << position);
  const double tolerance = sizeof(typename Cfg::Kv) == 2 ? 1e-2 : 5e-5;
  Sequence<Cfg> fresh(position, tokens), s = fresh, other = fresh;
  prefill(s, tokens, tokens + 20, Order::kAscending);
  check(s, tolerance);
  prefill(other, tokens, tokens, Order::kShuffled);
  EXPECT_TRUE(s == other);
}

/// Every T.
template <class Cfg, int... T>
void checkTokens(std::integer_sequence<int, T...>) {
  const int leaf = 128 / sizeof(typename Cfg::Kv);
  (checkDecode<Cfg, T + 1>(2 * leaf - T / 2, kDecodeError), ...);
}

} // namespace

TEST(AttentionDecode, HeadsOf256) {
  checkPositions<Config<u16, 12, 2, 256, 64>, 4>();
  checkPositions<Config<float, 6, 1, 256, 64>, 4>();
}
TEST(AttentionDecode, SeveralPasses) {
  checkPositions<Config<u16, 6, 1, 256, 64>, 8>();
  checkPositions<Config<float, 16, 1, 64, 64>, 8>();
}
TEST(AttentionDecode, OtherShapes) {
  checkPositions<Config<u16, 4, 2, 16, 8>, 3>();
  checkPositions<Config<float, 3, 3, 16, 16>, 2>();
  checkPositions<Config<u16, 3, 1, 128, 128>, 3>();
  checkPositions<Config<float, 6, 2, 48, 8, 1, 2, false>, 5>();
}
TEST(AttentionDecode, ManyRuns) {
  checkDecode<Config<u16, 2, 2, 16, 8, 1, 3>, 3>(40 * 64 + 7, kDecodeError);
  checkDecode<Config<float, 2, 1, 16, 8, 1, 3>, 2>(36 * 32 - 1, kDecodeError);
}
TEST(AttentionDecode, OneToEightTokens) {
  checkTokens<Config<u16, 6, 1, 64, 32>>(std::make_integer_sequence<int, 8>());
  checkTokens<Config<float, 2, 1, 64, 32>>(
      std::make_integer_sequence<int, 8>());
}

TEST(AttentionPrefill, FromTheStart) {
  for (int tokens : {1, 17, 65, 130}) {
    checkPrefill<Config<u16, 6, 1, 64, 32>>(0, tokens);
    checkPrefill<Config<float, 3, 1, 64, 32>>(0, tokens);
  }
}
TEST(AttentionPrefill, AfterOthers) {
  for (int tokens : {1, 17, 65}) {
    checkPrefill<Config<u16, 12, 2, 256, 64>>(37, tokens);
    checkPrefill<Config<float, 6, 1, 256, 64>>(61, tokens);
  }
}
TEST(AttentionPrefill, OtherShapes) {
  checkPrefill<Config<u16, 4, 2, 16, 8>>(5, 130);
  checkPrefill<Config<float, 3, 3, 16, 16>>(0, 130);
  checkPrefill<Config<u16, 16, 1, 128, 128>>(3, 17);
  checkPrefill<Config<float, 6, 2, 48, 8, 1, 2, false>>(1, 65);
}

TEST(Rope, SineAndCosine) {
  std::mt19937 random(1);
  double worst = 0;
  for (int i = 0; i < 1000000; ++i) {
    int position = random() % (i % 2 ? 100 : 1000000);
    float frequency = std::pow(10.0f, -(float)(random() % 1000) / 150);
    auto at = lathe::sinCosOf(position, frequency);
    double angle = (double)position * frequency;
    worst = std::max({worst, std::abs(at.sin - std::sin(angle)),
                      std::abs(at.cos - std::cos(angle))});
  }
  EXPECT_LT(worst, 1e-7);
}
