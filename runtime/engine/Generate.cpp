#include "runtime/engine/Generate.h"

#include <algorithm>
#include <chrono>

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

/// Feeds tokens; with onLogits, reports the logits of each of them.
static Status feed(Engine &engine, std::span<const int32_t> tokens,
                   const GenerateOptions &options) {
  if (!options.onLogits)
    return engine.feed(tokens);
  return engine.feed(tokens, [&](RowsView hidden) {
    return engine.logits(hidden, options.onLogits);
  });
}

StatusOr<GenerateResult> generate(Engine &engine,
                                  std::span<const int32_t> prompt,
                                  const GenerateOptions &options) {
  if (prompt.empty())
    return usageError("the prompt is empty: give at least one token");
  LATHE_RETURN_IF_ERROR(
      engine.setSampling(options.sampling, options.vocabLimit));
  GenerateResult result;
  result.promptTokens = int64_t(prompt.size());
  auto start = Clock::now();
  LATHE_RETURN_IF_ERROR(feed(engine, prompt, options));
  if (options.maxTokens == 0) {
    result.promptMs = millisecondsSince(start);
    return result;
  }
  LATHE_ASSIGN_OR_RETURN(int32_t token, engine.sample());
  result.promptMs = millisecondsSince(start);
  start = Clock::now();
  while (true) {
    if (std::ranges::find(options.stopIds, token) != options.stopIds.end()) {
      result.reason = FinishReason::EndOfText;
      break;
    }
    result.tokens.push_back(token);
    bool goOn = !options.onToken || options.onToken(token);
    bool last = !goOn || (options.maxTokens >= 0 &&
                          int64_t(result.tokens.size()) >= options.maxTokens);
    if (engine.position() >= engine.context()) {
      result.reason = FinishReason::Context;
      break;
    }
    if (last) {
      result.reason = goOn ? FinishReason::Length : FinishReason::Stopped;
      // The last token's own logits are wanted only by onLogits.
      if (options.onLogits)
        LATHE_RETURN_IF_ERROR(feed(engine, {&token, 1}, options));
      break;
    }
    ++result.generationSteps;
    if (options.onLogits) {
      LATHE_RETURN_IF_ERROR(feed(engine, {&token, 1}, options));
      LATHE_ASSIGN_OR_RETURN(token, engine.sample());
    } else {
      LATHE_ASSIGN_OR_RETURN(token, engine.step(token));
    }
  }
  result.generationMs = millisecondsSince(start);
  return result;
}

} // namespace lathe
