#include "tools/infer/BenchRounds.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace lathe::cli {

using Clock = std::chrono::steady_clock;

std::vector<int32_t> tokensFor(int64_t count, int64_t vocab) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i)
    ids.push_back(int32_t((i * 7919 + 13) % vocab));
  return ids;
}

static std::string listOf(const std::vector<double> &values) {
  std::string text;
  char number[32];
  for (double value : values) {
    std::snprintf(number, sizeof number, "%g", value);
    text += (text.empty() ? "" : ",") + std::string(number);
  }
  return text;
}

Status checkAccept(const BenchOptions &options) {
  double before = 1;
  for (double share : options.accept) {
    if (!(share >= 0 && share <= before))
      return usageError("--accept: expected shares from 1 down to 0, a draft "
                        "being accepted only behind the one before it, found " +
                        listOf(options.accept));
    before = share;
  }
  return absl::OkStatus();
}

static void addTo(SpecStats &sum, const SpecStats &more) {
  sum.rounds += more.rounds;
  sum.tokens += more.tokens;
  sum.seconds += more.seconds;
  for (size_t i = 0; i < sum.proposed.size(); ++i) {
    sum.proposed[i] += more.proposed[i];
    sum.accepted[i] += more.accepted[i];
  }
}

StatusOr<RoundsRow> benchRounds(const LoadedModel &model,
                                const BenchOptions &options, int64_t tokens,
                                int64_t depth) {
  Engine &engine = *model.engine;
  RoundsRow row;
  row.forced = !options.accept.empty();
  row.test = "tg" + std::to_string(tokens) + " " + options.model.spec;
  if (depth > 0)
    row.test += " @ d" + std::to_string(depth);
  if (row.forced)
    row.test += ", acceptance forced to " + listOf(options.accept);
  engine.forceAcceptance(options.accept);
  const auto prompt = tokensFor(std::max<int64_t>(depth, 1), engine.vocab());
  for (int i = -1; i < options.repetitions; ++i) { // the first one warms up
    LATHE_RETURN_IF_ERROR(engine.reset());
    LATHE_ASSIGN_OR_RETURN(Speculator speculator,
                           Speculator::create(engine, model.spec));
    speculator.note(prompt);
    LATHE_RETURN_IF_ERROR(engine.prompt(prompt));
    LATHE_ASSIGN_OR_RETURN(int32_t token, engine.sample());
    const auto start = Clock::now();
    while (speculator.stats().tokens < tokens) {
      LATHE_ASSIGN_OR_RETURN(Round round, speculator.next(token));
      token = round.chosen().back();
    }
    if (i < 0)
      continue;
    row.rates.push_back(
        double(speculator.stats().tokens) /
        std::chrono::duration<double>(Clock::now() - start).count());
    addTo(row.stats, speculator.stats());
  }
  return row;
}

std::string describe(const RoundsRow &row) {
  const SpecStats &stats = row.stats;
  char text[160];
  std::snprintf(text, sizeof text,
                ": %.2f tokens and %.3f ms per round; accepted%s",
                double(stats.tokens) / double(stats.rounds),
                1e3 * stats.seconds / double(stats.rounds),
                row.forced ? ", forced," : "");
  std::string line = row.test + text;
  for (size_t i = 0; i < stats.proposed.size() && stats.proposed[i] > 0; ++i)
    line += " " + std::to_string(stats.accepted[i]) + "/" +
            std::to_string(stats.proposed[i]);
  return line;
}

nlohmann::ordered_json toJson(const RoundsRow &row) {
  const SpecStats &stats = row.stats;
  return {{"acceptance_forced", row.forced},
          {"rounds", stats.rounds},
          {"tokens_per_round", double(stats.tokens) / double(stats.rounds)},
          {"ms_per_round", 1e3 * stats.seconds / double(stats.rounds)},
          {"proposed", stats.proposed},
          {"accepted", stats.accepted}};
}

} // namespace lathe::cli
