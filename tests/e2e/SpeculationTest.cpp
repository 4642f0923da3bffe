//===- SpeculationTest.cpp - speculation changes no token -----------------===//

#include "tests/e2e/TestModel.h"

#include "runtime/engine/Generate.h"
#include "runtime/io/Quantize.h"
#include "runtime/io/tokenizer/Tokenizer.h"
#include "tests/compiler/TempDirectory.h"

#include "gtest/gtest.h"

#include <fstream>

namespace lathe::e2e {
namespace {

constexpr int32_t kUsedVocab = 4082;
constexpr int64_t kTokens = 64;
const Build kPlain{.decodeTokens = {1}};
const Build kReplay{.decodeTokens = {1, 2, 3, 4, 5, 6, 7, 8}, .replay = true};

/// Python that the model has not seen: this repository's, in pieces.
const std::vector<Ids> &prompts() {
  static const std::vector<Ids> pieces = [] {
    const std::string file = LATHE_SOURCE_DIR "/tools/check/check";
    Tokenizer tokenizer =
        need(Tokenizer::load(LATHE_SOURCE_DIR "/models/demo/tokenizer.json"));
    std::ifstream in(file, std::ios::binary);
    std::string text(std::istreambuf_iterator<char>(in), {});
    const Ids ids = need(tokenizer.encode(text));
    std::vector<Ids> result;
    for (size_t i = 0; i < 20; ++i) {
      auto begin = ids.begin() + long(i * (ids.size() - 200) / 20);
      result.emplace_back(begin, begin + 5 + long(i * 7 % 60));
    }
    return result;
  }();
  return pieces;
}

GenerateResult generated(Engine &engine, const Ids &prompt,
                         const std::string &spec,
                         const SamplerOptions &sampling,
                         int64_t tokens = kTokens) {
  need(engine.reset());
  GenerateOptions options;
  options.maxTokens = tokens;
  options.vocabLimit = kUsedVocab;
  options.sampling = sampling;
  options.speculation = need(parseSpec(spec));
  return need(generate(engine, prompt, options));
}

const SamplerOptions kGreedy{};
const SamplerOptions kSampled{.temperature = 0.8f, .topP = 0.95f, .seed = 11};

/// Every mode must write what plain decoding writes.
void expectSameText(TestModel &model, const Build &build, size_t count) {
  auto plain = model.engine(kPlain, 2);
  auto engine = model.engine(build, 2);
  for (const SamplerOptions &sampling : {kGreedy, kSampled})
    for (size_t i = 0; i < count; ++i) {
      const Ids &prompt = prompts()[i];
      const Ids wanted = generated(*plain, prompt, "none", sampling).tokens;
      for (const char *spec : {"none", "mtp:1", "mtp:2", "mtp:3", "mtp:4",
                               "mtp:5", "mtp:6", "mtp:7", "ngram:8", "auto"})
        EXPECT_EQ(generated(*engine, prompt, spec, sampling).tokens, wanted)
            << "prompt " << i << ", " << spec << ", temperature "
            << sampling.temperature;
    }
}

TEST(Speculation, Int4TextIsTheSame) {
  expectSameText(demoModel(), kReplay, prompts().size());
}

TEST(Speculation, TheDraftHeadDoesNotChangeTheText) {
  Build build = kReplay;
  build.draftVocab = 700;
  for (const char *head : {"nvfp4", "int8"}) {
    build.draftHead = head;
    expectSameText(demoModel(), build, 4);
  }
}

TEST(Speculation, TextOfFloatWeightsIsTheSame) {
  if (!demoBf16Model())
    GTEST_SKIP() << "needs the BF16 demo model in " << demoBf16Directory();
  expectSameText(*demoBf16Model(), kReplay, 4);
}

TEST(Speculation, NvFp4TextIsTheSame) {
  if (!demoBf16Model())
    GTEST_SKIP() << "needs the BF16 demo model in " << demoBf16Directory();
  TempDirectory directory;
  QuantizeOptions options;
  options.format = WeightFormat::NvFp4;
  options.lmHead = options.mtp = true;
  const std::string path = (directory.path() / "nvfp4").string();
  need(quantizeCheckpoint(demoBf16Directory(), path, options));
  TestModel model(path);
  expectSameText(model, kReplay, 4);
}

/// A layer with gaps drafts from what it has seen behind the last one.
TEST(Speculation, AForgetfulMtpLayerDoesNotChangeTheText) {
  auto plain = demoModel().engine(kPlain, 2);
  auto engine = demoModel().engine(kReplay, 2);
  const Ids prompt = someIds(290, kUsedVocab);
  need(plain->prompt(prompt));
  need(engine->startMtp());
  engine->limitMtp(kMaxStepTokens);
  need(engine->prompt(prompt));
  int32_t token = need(plain->sample()), next = need(engine->sample());
  Ids wanted, found;
  for (int i = 0; i < 200; ++i, token = need(plain->step(token)))
    wanted.push_back(token);
  while (found.size() < wanted.size()) {
    const bool drafts = found.size() % 60 > 40;
    Round round;
    if (drafts)
      round = need(engine->draftAndVerify(next, 3));
    else
      round.tokens[0] = need(engine->step(next));
    found.push_back(next);
    for (int32_t chosen : round.chosen().first(size_t(round.accepted)))
      found.push_back(chosen);
    next = round.chosen().back();
  }
  found.resize(wanted.size());
  EXPECT_EQ(found, wanted);
}

TEST(Speculation, AModelWithoutMtpLooksDraftsUp) {
  auto plain = tinyModel().engine(kPlain);
  auto engine = tinyModel().engine(kReplay);
  EXPECT_FALSE(tinyModel().compiled(kReplay).mtpProblem.empty());
  GenerateOptions options;
  options.maxTokens = kTokens;
  const Ids prompt = someIds(10, 320);
  const Ids wanted = need(generate(*plain, prompt, options)).tokens;
  for (const char *spec : {"ngram:3", "ngram:8", "auto"}) {
    options.speculation = need(parseSpec(spec));
    need(engine->reset());
    EXPECT_EQ(need(generate(*engine, prompt, options)).tokens, wanted) << spec;
  }
}

TEST(Speculation, TheContextEndsAtTheSameToken) {
  auto plain = demoModel().engine(kPlain);
  auto engine = demoModel().engine(kReplay);
  const Ids prompt = someIds(size_t(engine->context()) - 13, kUsedVocab);
  GenerateResult wanted = generated(*plain, prompt, "none", kGreedy, -1);
  EXPECT_EQ(wanted.reason, FinishReason::Context);
  for (const char *spec : {"mtp:3", "mtp:7", "ngram:8", "auto"}) {
    GenerateResult found = generated(*engine, prompt, spec, kGreedy, -1);
    EXPECT_EQ(found.reason, FinishReason::Context) << spec;
    EXPECT_EQ(found.tokens, wanted.tokens) << spec;
  }
}

/// Where a text ends inside a round, what came behind was never fed.
TEST(Speculation, ATextMayEndInsideARound) {
  auto plain = demoModel().engine(kPlain);
  auto engine = demoModel().engine(kReplay);
  const Ids &prompt = prompts()[0];
  for (int64_t tokens = 1; tokens <= 12; ++tokens) {
    generated(*plain, prompt, "none", kGreedy, tokens);
    generated(*engine, prompt, "mtp:7", kGreedy, tokens);
    EXPECT_EQ(engine->position(), plain->position());
    EXPECT_EQ(need(engine->state("layers.0.recurrent")),
              need(plain->state("layers.0.recurrent")));
  }
}

TEST(Speculation, AStopIdEndsTheTextInsideARound) {
  auto plain = demoModel().engine(kPlain);
  auto engine = demoModel().engine(kReplay);
  GenerateOptions options;
  options.maxTokens = kTokens;
  options.vocabLimit = kUsedVocab;
  const Ids text = need(generate(*plain, prompts()[1], options)).tokens;
  options.stopIds = {text[size_t(kTokens) / 2]};
  need(plain->reset());
  const Ids wanted = need(generate(*plain, prompts()[1], options)).tokens;
  options.speculation = need(parseSpec("mtp:7"));
  GenerateResult found = need(generate(*engine, prompts()[1], options));
  EXPECT_EQ(found.tokens, wanted);
  EXPECT_EQ(found.reason, FinishReason::EndOfText);
  EXPECT_EQ(engine->position(), plain->position());
}

//===----------------------------------------------------------------------===//
// Acceptance
//===----------------------------------------------------------------------===//

/// How many of three drafts hold behind each position of a text, with the MTP
/// layer's cache true up to there: what rounds could at best accept.
class TeacherForced {
public:
  TeacherForced(Engine &engine, const Ids &text) : engine(engine), text(text) {
    need(engine.reset());
    need(engine.feed(text, [&](RowsView rows) {
      for (int64_t i = 0; i < rows.rows; ++i)
        hidden.emplace_back(rows.row(i).begin(), rows.row(i).end());
      return absl::OkStatus();
    }));
  }

  /// Drafts that hold behind the token at `position`. Call in order.
  int64_t accepted(int64_t position) {
    std::vector<float> row = hidden[size_t(position - 1)];
    int32_t token = text[size_t(position)];
    for (int64_t i = 0; i < 3; ++i) {
      row = mtp(token, row, position - 1 + i);
      token = highest(row);
      if (token != text[size_t(position + 1 + i)])
        return i;
    }
    return 3;
  }

private:
  std::vector<float> mtp(int32_t token, const std::vector<float> &row,
                         int64_t slot) {
    Engine::Input in[2];
    in[0].tokens = {&token, 1};
    in[1].rows = {row.data(), 1, int64_t(row.size()), int64_t(row.size())};
    auto out = need(engine.run("mtp", in, 1, slot)).row(0);
    return {out.begin(), out.end()};
  }
  int32_t highest(const std::vector<float> &row) {
    int32_t best = 0;
    need(engine.logits(
        {row.data(), 1, int64_t(row.size()), int64_t(row.size())},
        [&](RowsView rows) {
          auto logits = rows.row(0).first(kUsedVocab);
          best = int32_t(std::ranges::max_element(logits) - logits.begin());
          return absl::OkStatus();
        }));
    return best;
  }

  Engine &engine;
  const Ids &text;
  std::vector<std::vector<float>> hidden;
};

TEST(Speculation, NoAcceptanceIsLost) {
  auto engine = demoModel().engine(kReplay, 2);
  auto teacher = demoModel().engine(kPlain, 2, 1);
  int64_t rounds = 0, tokens = 0, predicted = 0;
  for (size_t i = 0; i < 8; ++i) {
    const Ids &prompt = prompts()[i];
    GenerateResult found = generated(*engine, prompt, "mtp:3", kGreedy, 128);
    rounds += found.speculation.rounds;
    tokens += found.speculation.tokens;
    Ids text = prompt;
    text.insert(text.end(), found.tokens.begin(), found.tokens.end());
    TeacherForced forced(*teacher, text);
    int64_t next = int64_t(prompt.size());
    for (int64_t p = 1; p + 4 < int64_t(text.size()); ++p) {
      const int64_t accepted = forced.accepted(p);
      if (p != next)
        continue;
      next += accepted + 1;
      ++predicted;
    }
    predicted += next < int64_t(text.size()) ? 1 : 0;
  }
  std::printf("%.3f tokens per round, %lld rounds, %lld predicted\n",
              double(tokens) / double(rounds), (long long)rounds,
              (long long)predicted);
  EXPECT_NEAR(double(rounds), double(predicted), 0.03 * double(predicted));
}

TEST(Speculation, ForcedAcceptanceIsWhatWasAsked) {
  auto engine = demoModel().engine(kReplay);
  engine->forceAcceptance({0.9, 0.5, 0.25});
  GenerateResult found =
      generated(*engine, prompts()[0], "mtp:3", kSampled, 400);
  const SpecStats &stats = found.speculation;
  for (auto [i, share] : {std::pair{0, 0.9}, {1, 0.5}, {2, 0.25}})
    EXPECT_NEAR(double(stats.accepted[size_t(i)]) /
                    double(stats.proposed[size_t(i)]),
                share, 0.1);
}

} // namespace
} // namespace lathe::e2e
