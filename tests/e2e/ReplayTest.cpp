//===- ReplayTest.cpp - rejected tokens leave no trace --------------------===//

#include "tests/e2e/TestModel.h"

#include "gtest/gtest.h"

namespace lathe::e2e {
namespace {

constexpr int32_t kUsedVocab = 4082;
const Build kPlain{.decodeTokens = {1}};
const Build kReplay{.decodeTokens = {1, 2, 3, 4, 5, 6, 7, 8}, .replay = true};

/// Every state as far as `position`; what a KV cache holds behind it is for the
/// next step to overwrite.
std::map<std::string, std::vector<float>> settled(Engine &engine,
                                                  const Plan &plan) {
  std::map<std::string, std::vector<float>> states = statesOf(engine, plan);
  for (const PlannedState &state : plan.states) {
    if (state.kind != StateKind::Kv)
      continue;
    std::vector<float> &values = states[state.name];
    const int64_t row = state.dims[1], all = engine.context() * row;
    for (int64_t block = 0; block < 2 * state.dims[0]; ++block)
      std::fill(values.begin() + block * all + engine.position() * row,
                values.begin() + (block + 1) * all, 0.0f);
  }
  return states;
}

void expectSameStates(Engine &found, Engine &wanted) {
  const Plan &replay = demoModel().compiled(kReplay).plan;
  const Plan &plain = demoModel().compiled(kPlain).plan;
  ASSERT_EQ(found.position(), wanted.position());
  auto expected = settled(wanted, plain);
  for (auto &[name, values] : settled(found, replay))
    if (!name.starts_with("mtp."))
      EXPECT_TRUE(values == expected.at(name))
          << name << " differs by " << maxDifference(values, expected.at(name));
}

/// A text that the model would write, and the engines that have read its start.
class Replay : public testing::Test {
protected:
  static constexpr size_t kStart = 20;

  void SetUp() override {
    auto writer = demoModel().engine(kPlain, 2);
    text = greedyText(*writer, someIds(kStart, kUsedVocab), 80, kUsedVocab);
    plain = demoModel().engine(kPlain, 2);
    replay = demoModel().engine(kReplay, 2);
    for (Engine *engine : {plain.get(), replay.get()}) {
      need(engine->setSampling({}, kUsedVocab));
      need(engine->prompt(std::span(text).first(kStart)));
    }
  }

  /// The round of `tokens` tokens whose first `right` drafts are the text's.
  Round round(int64_t tokens, int64_t right) {
    const size_t at = size_t(replay->position());
    Ids drafts(text.begin() + long(at) + 1,
               text.begin() + long(at) + long(tokens));
    for (size_t i = size_t(right); i < drafts.size(); ++i)
      drafts[i] = (drafts[i] + 1) % kUsedVocab;
    return need(replay->verify(text[at], drafts));
  }
  /// Brings `plain` to where `replay` is.
  void follow() {
    while (plain->position() < replay->position())
      need(plain->feed({&text[size_t(plain->position())], 1}));
  }

  Ids text;
  std::unique_ptr<Engine> plain, replay;
};

TEST_F(Replay, RejectsAtEveryPosition) {
  for (int64_t tokens = 1; tokens <= 8; ++tokens)
    for (int64_t right = 0; right < tokens; ++right) {
      SCOPED_TRACE(testing::Message() << right << " of " << tokens - 1);
      need(replay->reset());
      need(replay->prompt(std::span(text).first(kStart)));
      // A round before and one behind, so that what is left is replayed.
      round(4, 2);
      const int64_t start = replay->position();
      Round found = round(tokens, right);
      EXPECT_EQ(found.accepted, right);
      EXPECT_EQ(replay->position(), start + right + 1);
      EXPECT_TRUE(std::ranges::equal(
          found.chosen(),
          std::span(text).subspan(size_t(start) + 1, size_t(right) + 1)));
      EXPECT_EQ(round(3, 2).accepted, 2);
    }
}

TEST_F(Replay, EveryRoundLeavesTheStatesOfPlainDecoding) {
  for (int64_t tokens : {1, 2, 3, 4, 5, 6, 7, 8})
    for (int64_t right : {0, int(tokens) / 2}) {
      SCOPED_TRACE(testing::Message() << right << " of " << tokens - 1);
      if (replay->position() + tokens + 1 > int64_t(text.size()))
        return;
      round(tokens, right);
      follow();
      expectSameStates(*replay, *plain);
    }
}

TEST_F(Replay, LookingAtAStateChangesNothing) {
  round(8, 5);
  need(replay->state("layers.0.recurrent"));
  round(4, 1);
  follow();
  expectSameStates(*replay, *plain);
}

TEST_F(Replay, APromptFollowsARound) {
  round(8, 2);
  follow();
  const Ids more = someIds(30, kUsedVocab);
  for (Engine *engine : {plain.get(), replay.get()})
    need(engine->prompt(more));
  expectSameStates(*replay, *plain);
}

TEST_F(Replay, TokensCanBeTakenBackAfterARound) {
  round(8, 7);
  replay->takeBack(3);
  follow();
  expectSameStates(*replay, *plain);
}

TEST_F(Replay, AStepOfTheContextsLastTokens) {
  Ids rest = someIds(size_t(replay->context()), kUsedVocab);
  const int64_t room = replay->context() - replay->position();
  const Ids fill(rest.begin(), rest.begin() + room - 8);
  for (Engine *engine : {plain.get(), replay.get()})
    need(engine->prompt(fill));
  const std::span<const int32_t> last(rest.data(), 8);
  need(replay->feed(last));
  for (int32_t id : last)
    need(plain->feed({&id, 1}));
  expectSameStates(*replay, *plain);
}

} // namespace
} // namespace lathe::e2e
