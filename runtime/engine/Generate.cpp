#include "runtime/engine/Generate.h"

#include <algorithm>
#include <chrono>
#include <optional>

namespace lathe {

std::string_view nameOf(FinishReason reason) {
  switch (reason) {
  case FinishReason::Length:
    return "length";
  case FinishReason::EndOfText:
    return "eos";
  case FinishReason::Stopped:
    return "stop";
  case FinishReason::Context:
    return "context";
  }
  return "?";
}

using Clock = std::chrono::steady_clock;

static double millisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start)
      .count();
}

namespace {

/// The state of one call of generate().
class Generation {
public:
  Generation(Engine &engine, const GenerateOptions &options,
             Speculator &speculator)
      : engine(engine), options(options), speculator(speculator) {}

  Status feedPrompt(std::span<const int32_t> prompt);
  Status run(int32_t token);

  GenerateResult result;

private:
  std::optional<FinishReason> take(int32_t token, int64_t fed);
  StatusOr<Round> next(int32_t token);
  Status reportLogits(std::span<const int32_t> tokens);

  Engine &engine;
  const GenerateOptions &options;
  Speculator &speculator;
};

} // namespace

/// Feeds tokens and reports the logits of each of them.
Status Generation::reportLogits(std::span<const int32_t> tokens) {
  return engine.prompt(tokens, [&](RowsView hidden) {
    return engine.logits(hidden, options.onLogits);
  });
}

Status Generation::feedPrompt(std::span<const int32_t> prompt) {
  result.promptTokens = int64_t(prompt.size());
  speculator.note(prompt);
  return options.onLogits ? reportLogits(prompt) : engine.prompt(prompt);
}

/// Adds a token of which `fed` tokens stand before it; a reason ends the text.
std::optional<FinishReason> Generation::take(int32_t token, int64_t fed) {
  if (std::ranges::find(options.stopIds, token) != options.stopIds.end())
    return FinishReason::EndOfText;
  result.tokens.push_back(token);
  const bool goOn = !options.onToken || options.onToken(token);
  if (fed >= engine.context())
    return FinishReason::Context;
  if (!goOn)
    return FinishReason::Stopped;
  if (options.maxTokens >= 0 &&
      int64_t(result.tokens.size()) >= options.maxTokens)
    return FinishReason::Length;
  return std::nullopt;
}

StatusOr<Round> Generation::next(int32_t token) {
  if (!options.onLogits)
    return speculator.next(token);
  Round round;
  LATHE_RETURN_IF_ERROR(reportLogits({&token, 1}));
  LATHE_ASSIGN_OR_RETURN(round.tokens[0], engine.sample());
  return round;
}

Status Generation::run(int32_t token) {
  Round round;
  round.tokens[0] = token;
  while (true) {
    for (int64_t i = 0; i <= round.accepted; ++i) {
      token = round.tokens[size_t(i)];
      const int64_t ahead = round.accepted - i;
      auto reason = take(token, engine.position() - ahead);
      if (!reason)
        continue;
      engine.takeBack(ahead);
      result.generationTokens -= ahead;
      result.reason = *reason;
      // The last token's own logits are wanted only by onLogits.
      if (options.onLogits &&
          (*reason == FinishReason::Length || *reason == FinishReason::Stopped))
        return reportLogits({&token, 1});
      return absl::OkStatus();
    }
    LATHE_ASSIGN_OR_RETURN(round, next(token));
    result.generationTokens += round.accepted + 1;
  }
}

StatusOr<GenerateResult> generate(Engine &engine,
                                  std::span<const int32_t> prompt,
                                  const GenerateOptions &options) {
  if (prompt.empty())
    return usageError("the prompt is empty: give at least one token");
  LATHE_RETURN_IF_ERROR(
      engine.setSampling(options.sampling, options.vocabLimit));
  LATHE_ASSIGN_OR_RETURN(Speculator speculator,
                         Speculator::create(engine, options.onLogits
                                                        ? SpecOptions{}
                                                        : options.speculation));
  Generation generation(engine, options, speculator);
  GenerateResult &result = generation.result;
  auto start = Clock::now();
  LATHE_RETURN_IF_ERROR(generation.feedPrompt(prompt));
  if (options.maxTokens == 0) {
    result.promptMs = millisecondsSince(start);
    return result;
  }
  LATHE_ASSIGN_OR_RETURN(int32_t token, engine.sample());
  result.promptMs = millisecondsSince(start);
  start = Clock::now();
  LATHE_RETURN_IF_ERROR(generation.run(token));
  result.generationMs = millisecondsSince(start);
  result.speculation = speculator.stats();
  return result;
}

} // namespace lathe
