//===- Generate.h - prompt in, tokens out -----------------------*- C++ -*-===//

#ifndef LATHE_RUNTIME_ENGINE_GENERATE_H
#define LATHE_RUNTIME_ENGINE_GENERATE_H

#include "runtime/engine/Engine.h"
#include "runtime/engine/Sampler.h"
#include "runtime/engine/Speculator.h"

#include <functional>
#include <string_view>
#include <vector>

namespace lathe {

enum class FinishReason {
  Length,    ///< maxTokens
  EndOfText, ///< a stop id
  Stopped,   ///< onToken said so
  Context,   ///< the KV cache is full
};

/// "length", "eos", "stop" or "context".
std::string_view nameOf(FinishReason reason);

struct GenerateOptions {
  int64_t maxTokens = -1;       ///< -1: until something else ends the text
  std::vector<int32_t> stopIds; ///< end the text; not part of the result
  int32_t vocabLimit = 0;       ///< ids from here on are never chosen; 0: none
  SamplerOptions sampling;
  /// Changes the time that tokens take, not the tokens. Off with onLogits.
  SpecOptions speculation;
  /// Called with each new token; false ends the text. May be null.
  std::function<bool(int32_t)> onToken;
  /// Called with the logits of every position of prompt and output, in order.
  /// Costs a run of the head over the whole prompt. May be null.
  std::function<Status(RowsView)> onLogits;
};

struct GenerateResult {
  std::vector<int32_t> tokens;
  FinishReason reason = FinishReason::Length;
  int64_t promptTokens = 0;
  double promptMs = 0;     ///< until the first token is known
  double generationMs = 0; ///< from then on
  /// Tokens that were chosen in generationMs, a stop id included.
  int64_t generationTokens = 0;
  SpecStats speculation;
};

/// Feeds `prompt` (not empty) and generates. The engine is left as if it had
/// been fed the tokens of the result one by one, but for the last. Errors:
/// those of Engine::feed, of the sampler and of Speculator::create.
StatusOr<GenerateResult> generate(Engine &engine,
                                  std::span<const int32_t> prompt,
                                  const GenerateOptions &options);

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_GENERATE_H
