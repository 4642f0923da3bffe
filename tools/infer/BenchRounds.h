//===- BenchRounds.h - what rounds of speculation yield ---------*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_BENCHROUNDS_H
#define LATHE_TOOLS_INFER_BENCHROUNDS_H

#include "tools/infer/LoadedModel.h"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace lathe::cli {

struct RoundsRow {
  std::string test; ///< "tg64 mtp:3 @ d1000", and that acceptance was forced
  std::vector<double> rates; ///< tokens per second, per repetition
  SpecStats stats;           ///< of all repetitions
  bool forced = false;
};

/// Fixed ids that stay inside any vocabulary.
std::vector<int32_t> tokensFor(int64_t count, int64_t vocab);

/// usageError unless --accept is a falling list of shares.
Status checkAccept(const BenchOptions &options);

/// Rounds of --spec behind a prompt of `depth` tokens until `tokens` are there.
StatusOr<RoundsRow> benchRounds(const LoadedModel &model,
                                const BenchOptions &options, int64_t tokens,
                                int64_t depth);

/// One line: tokens and time per round, drafts accepted per place.
std::string describe(const RoundsRow &row);
nlohmann::ordered_json toJson(const RoundsRow &row);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_BENCHROUNDS_H
