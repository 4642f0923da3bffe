//===- Speculator.h - rounds of one sequence --------------------*- C++ -*-===//
//
// Decides before each round where its drafts come from and how many there are,
// and counts what became of them. Which tokens come out does not depend on it.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_SPECULATOR_H
#define LATHE_RUNTIME_ENGINE_SPECULATOR_H

#include "runtime/engine/DraftPolicy.h"
#include "runtime/engine/Engine.h"
#include "runtime/engine/PromptLookup.h"

#include <optional>
#include <string_view>

namespace lathe {

struct SpecOptions {
  enum class Mode : uint8_t {
    Off,
    Mtp,    ///< always `drafts` of the MTP layer
    Lookup, ///< `drafts` out of the text so far, where it has any
    Auto,   ///< what pays, from either
  } mode = Mode::Off;
  int64_t drafts = 0;
};

/// "none", "auto", "mtp:1" to "mtp:7" or "ngram:1" to "ngram:8"; of eight
/// drafts a step verifies seven. usageError for anything else.
StatusOr<SpecOptions> parseSpec(std::string_view text);

/// The decode steps that a plan needs for `options`, ascending.
std::vector<int64_t> stepTokens(const SpecOptions &options);

struct SpecStats {
  int64_t rounds = 0, tokens = 0;
  double seconds = 0;
  std::array<int64_t, DraftPolicy::kMostDrafts> proposed{}, accepted{};
  std::array<int64_t, 3> roundsBy{}; ///< by DraftSource
};

class Speculator {
public:
  /// Call before the engine is fed. With an `options.mode` of Mtp or Auto and
  /// an MTP layer in the plan, has the engine keep what that layer needs.
  /// Errors: those of Engine::startMtp(). `engine` must outlive the result.
  static StatusOr<Speculator> create(Engine &engine,
                                     const SpecOptions &options);

  /// Notes tokens that the engine was fed outside of rounds: the prompt.
  void note(std::span<const int32_t> tokens);

  /// Feeds `token`, which follows all that was noted, and returns what follows.
  StatusOr<Round> next(int32_t token);

  const SpecStats &stats() const { return counted; }

private:
  Speculator(Engine &engine, const SpecOptions &options);
  DraftChoice choose();
  StatusOr<Round> play(int32_t token, const DraftChoice &choice);
  void watch(const DraftChoice &choice, std::span<const int32_t> tokens);

  Engine *engine;
  SpecOptions options;
  bool mtp = false;
  bool limited = false; ///< the MTP layer sees only the last tokens
  DraftPolicy policy;
  std::optional<PromptLookup> lookup;
  std::span<const int32_t> lookedUp;
  /// Drafts out of the text that were not played, and how many of them the text
  /// that came has reached.
  struct Watched {
    std::array<int32_t, DraftPolicy::kMostDrafts> drafts{};
    int64_t count = 0, reached = 0;
  } watched;
  SpecStats counted;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_SPECULATOR_H
