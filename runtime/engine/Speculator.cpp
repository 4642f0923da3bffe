#include "runtime/engine/Speculator.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <string>

namespace lathe {

using Mode = SpecOptions::Mode;

/// What rounds of `auto` can have. Every count is a set of kernels to compile.
static constexpr int64_t kAutoDrafts[] = {1, 3, 7};
/// An MTP layer with a larger share of the parameters sees only the last tokens
/// before a round of `auto` that drafts with it: feeding it all of a text that
/// may have no such round would cost more than `auto` may.
static constexpr double kMostMtpShare = 1.0 / 16;
static constexpr int64_t kMtpWindow = kMaxStepTokens;

StatusOr<SpecOptions> parseSpec(std::string_view text) {
  if (text == "none")
    return SpecOptions{};
  if (text == "auto")
    return SpecOptions{Mode::Auto, DraftPolicy::kMostDrafts};
  for (auto [name, mode, most] :
       {std::tuple{"mtp:", Mode::Mtp, 7}, {"ngram:", Mode::Lookup, 8}}) {
    if (!text.starts_with(name))
      continue;
    const std::string_view digits = text.substr(std::string_view(name).size());
    int64_t count = 0;
    auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), count);
    if (error == std::errc() && end == digits.data() + digits.size() &&
        count >= 1 && count <= most)
      return SpecOptions{mode,
                         std::min<int64_t>(count, DraftPolicy::kMostDrafts)};
  }
  return usageError("--spec: expected none, auto, mtp:1 to mtp:7 or ngram:1 to "
                    "ngram:8, found \"" +
                    std::string(text) + "\"");
}

std::vector<int64_t> stepTokens(const SpecOptions &options) {
  std::vector<int64_t> tokens = {1};
  if (options.mode == Mode::Auto)
    for (int64_t drafts : kAutoDrafts)
      tokens.push_back(drafts + 1);
  else if (options.drafts > 0)
    tokens.push_back(options.drafts + 1);
  return tokens;
}

static std::vector<int64_t> countsFor(const Engine &engine,
                                      const SpecOptions &options) {
  std::vector<int64_t> counts;
  for (int64_t tokens : stepTokens(options))
    if (tokens > 1 && engine.canVerify(tokens))
      counts.push_back(tokens - 1);
  return counts;
}

Speculator::Speculator(Engine &engine, const SpecOptions &options)
    : engine(&engine), options(options), policy(countsFor(engine, options)) {
  if (options.mode == Mode::Lookup || options.mode == Mode::Auto)
    lookup.emplace(engine.context() + kMaxStepTokens);
}

StatusOr<Speculator> Speculator::create(Engine &engine,
                                        const SpecOptions &options) {
  Speculator result(engine, options);
  const bool wanted = options.mode == Mode::Mtp || options.mode == Mode::Auto;
  if (options.drafts > 0 && countsFor(engine, options).empty())
    return usageError("the model was compiled without steps for speculation");
  if (options.mode == Mode::Mtp || (wanted && engine.hasMtp())) {
    LATHE_RETURN_IF_ERROR(engine.startMtp());
    result.mtp = true;
    result.limited =
        options.mode == Mode::Auto && engine.mtpShare() > kMostMtpShare;
    engine.limitMtp(result.limited ? kMtpWindow : 0);
  }
  return result;
}

void Speculator::note(std::span<const int32_t> tokens) {
  if (lookup)
    lookup->append(tokens);
}

DraftChoice Speculator::choose() {
  const int64_t room = engine->context() - engine->position() - 1;
  lookedUp = {};
  if (lookup)
    lookedUp = lookup->propose(options.drafts);
  const bool found = !lookedUp.empty();
  switch (options.mode) {
  case Mode::Off:
    break;
  case Mode::Mtp:
    if (options.drafts <= room)
      return {DraftSource::Mtp, options.drafts};
    break;
  case Mode::Lookup:
    if (found && options.drafts <= room)
      return {DraftSource::Lookup, options.drafts};
    break;
  case Mode::Auto:
    return policy.choose(mtp, found, room);
  }
  return {};
}

StatusOr<Round> Speculator::play(int32_t token, const DraftChoice &choice) {
  switch (choice.source) {
  case DraftSource::Mtp:
    return engine->draftAndVerify(token, choice.drafts);
  case DraftSource::Lookup:
    return engine->verify(token, lookedUp.first(size_t(choice.drafts)));
  case DraftSource::None:
    break;
  }
  Round round;
  LATHE_ASSIGN_OR_RETURN(round.tokens[0], engine->step(token));
  return round;
}

/// Holds drafts that were not played against what came in their place: lookup
/// costs nothing to judge. `tokens` follow the token that was fed.
void Speculator::watch(const DraftChoice &choice,
                       std::span<const int32_t> tokens) {
  if (choice.source == DraftSource::Lookup) {
    watched = {};
    return;
  }
  if (watched.count == 0) {
    std::ranges::copy(lookedUp, watched.drafts.begin());
    watched.count = int64_t(lookedUp.size());
  }
  for (int32_t token : tokens) {
    if (watched.count == 0)
      return;
    const bool held = watched.drafts[size_t(watched.reached)] == token;
    watched.reached += held ? 1 : 0;
    if (held && watched.reached < watched.count)
      continue;
    policy.observe({DraftSource::Lookup, watched.count}, watched.reached);
    watched = {};
  }
}

static double secondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

StatusOr<Round> Speculator::next(int32_t token) {
  note({&token, 1});
  const DraftChoice choice = choose();
  auto start = std::chrono::steady_clock::now();
  double feeding = 0;
  if (choice.source == DraftSource::Mtp &&
      engine->mtpBehind() > kMaxStepTokens) {
    LATHE_RETURN_IF_ERROR(engine->feedMtp());
    feeding = secondsSince(start);
  }
  start = std::chrono::steady_clock::now();
  LATHE_ASSIGN_OR_RETURN(Round round, play(token, choice));
  const double seconds = secondsSince(start);
  // Where the MTP layer is shown everything, that is no price of this round.
  policy.record(choice, round.accepted, seconds, limited ? feeding : 0);
  if (options.mode == Mode::Auto)
    watch(choice, round.chosen());
  note(round.chosen().first(size_t(round.accepted)));
  ++counted.rounds;
  ++counted.roundsBy[size_t(choice.source)];
  counted.tokens += round.accepted + 1;
  counted.seconds += seconds + feeding;
  for (int64_t i = 0; i < round.drafts; ++i) {
    ++counted.proposed[size_t(i)];
    counted.accepted[size_t(i)] += i < round.accepted ? 1 : 0;
  }
  return round;
}

} // namespace lathe
