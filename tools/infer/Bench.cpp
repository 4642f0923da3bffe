//===- Bench.cpp - infer bench: rates against the memory's limit ----------===//

#include "tools/infer/BenchCuda.h"
#include "tools/infer/BenchProfile.h"
#include "tools/infer/BenchRounds.h"
#include "tools/infer/LoadedModel.h"
#include "tools/infer/Verbs.h"

#include "runtime/engine/ReadBandwidth.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <numeric>
#include <optional>

namespace lathe::cli {

namespace {

/// One line of the report.
struct Row {
  std::string test;          ///< "pp512", "tg64 @ d1000"
  std::vector<double> rates; ///< tokens per second, per repetition
  double bytesPerToken = 0;  ///< decode only
  /// Read bandwidth in bytes per second, taken right before each repetition:
  /// a shared machine changes from second to second.
  std::vector<double> bandwidths;
  std::optional<RoundsRow> rounds; ///< speculation only

  double rate() const { return median(rates); }
  double bandwidth() const { return median(bandwidths); }
  /// The median over repetitions of achieved over readable bytes per second.
  double percent() const {
    std::vector<double> ratios;
    for (size_t i = 0; i < rates.size(); ++i)
      ratios.push_back(100 * bytesPerToken * rates[i] / bandwidths[i]);
    return median(ratios);
  }

  static double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
  }
};

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

} // namespace

static StatusOr<Row> benchPrompt(Engine &engine, int64_t tokens,
                                 int repetitions) {
  Row row;
  row.test = "pp" + std::to_string(tokens);
  auto ids = tokensFor(tokens, engine.vocab());
  for (int i = -1; i < repetitions; ++i) { // the first one warms up
    LATHE_RETURN_IF_ERROR(engine.reset());
    auto start = Clock::now();
    LATHE_RETURN_IF_ERROR(engine.feed(ids));
    LATHE_RETURN_IF_ERROR(engine.lastLogits().status());
    if (i >= 0)
      row.rates.push_back(double(tokens) / secondsSince(start));
  }
  return row;
}

/// Bytes of state that one decode step at this depth moves.
static double stateBytes(const Plan &plan, int64_t depth) {
  double bytes = 0;
  for (const PlannedState &state : plan.states) {
    if (state.name.starts_with("mtp."))
      continue;
    bytes += state.kind == StateKind::Kv ? double(state.byteSize(depth))
                                         : 2.0 * double(state.byteSize(0));
  }
  return bytes;
}

static StatusOr<Row> benchDecode(const LoadedModel &model, int64_t tokens,
                                 int64_t depth, int repetitions) {
  CpuEngine &engine = *model.cpuEngine;
  Row row;
  row.test = "tg" + std::to_string(tokens);
  if (depth > 0)
    row.test += " @ d" + std::to_string(depth);
  row.bytesPerToken = double(engine.weightBytesPerStep()) +
                      stateBytes(model.compiled->plan, depth + tokens / 2);
  auto prompt = tokensFor(depth, engine.vocab());
  for (int i = -1; i < repetitions; ++i) {
    LATHE_RETURN_IF_ERROR(engine.reset());
    if (!prompt.empty())
      LATHE_RETURN_IF_ERROR(engine.feed(prompt));
    LATHE_ASSIGN_OR_RETURN(double bandwidth,
                           measureReadBandwidth(engine.threads()));
    auto start = Clock::now();
    for (int32_t id : tokensFor(tokens, engine.vocab())) {
      LATHE_RETURN_IF_ERROR(engine.feed({&id, 1}));
      LATHE_RETURN_IF_ERROR(engine.lastLogits().status());
    }
    if (i < 0)
      continue;
    row.rates.push_back(double(tokens) / secondsSince(start));
    row.bandwidths.push_back(bandwidth);
  }
  return row;
}

static void printTable(const std::vector<Row> &rows) {
  std::printf("| test | tok/s | ms/token | MB/token | GB/s | readable GB/s | "
              "%% |\n|---|---:|---:|---:|---:|---:|---:|\n");
  for (const Row &row : rows) {
    double rate = row.rate();
    std::printf("| %s | %.2f | %.3f |", row.test.c_str(), rate, 1e3 / rate);
    if (row.bytesPerToken > 0)
      std::printf(" %.1f | %.2f | %.2f | %.1f |\n", row.bytesPerToken / 1e6,
                  row.bytesPerToken * rate / 1e9, row.bandwidth() / 1e9,
                  row.percent());
    else
      std::printf(" | | | |\n");
  }
  std::printf("\n%%: of the read bandwidth, measured before each repetition\n");
  for (const Row &row : rows)
    if (row.rounds)
      std::printf("\n%s\n", describe(*row.rounds).c_str());
}

static void printJson(const std::vector<Row> &rows, const LoadedModel &model) {
  nlohmann::ordered_json json;
  json["schema_version"] = 1;
  json["model_type"] = model.compiled->modelType;
  json["threads"] = model.threads;
  json["results"] = nlohmann::ordered_json::array();
  for (const Row &row : rows) {
    nlohmann::ordered_json entry{{"test", row.test},
                                 {"tok_s", row.rate()},
                                 {"samples_tok_s", row.rates}};
    if (row.bytesPerToken > 0) {
      entry["bytes_per_token"] = row.bytesPerToken;
      entry["read_bandwidth_bytes_s"] = row.bandwidth();
      entry["percent_of_read_bandwidth"] = row.percent();
    }
    if (row.rounds)
      entry.update(toJson(*row.rounds));
    json["results"].push_back(entry);
  }
  std::printf("%s\n", json.dump(2).c_str());
}

/// Where the time of all tests together went, per kernel.
static void printLedger(const LoadedModel &model,
                        const std::vector<double> &seconds) {
  const auto &kernels = model.compiled->plan.kernels;
  std::vector<size_t> order(kernels.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::ranges::sort(order, std::greater(),
                    [&](size_t i) { return seconds[i]; });
  double total = std::accumulate(seconds.begin(), seconds.end(), 0.0);
  std::printf("\n| kernel | s | %% |\n|---|---:|---:|\n");
  for (size_t i : order)
    std::printf("| %s | %.3f | %.1f |\n", kernels[i].name.c_str(), seconds[i],
                100 * seconds[i] / total);
}

/// Enough context for the longest test.
static int64_t contextFor(const BenchOptions &options) {
  int64_t most = *std::ranges::max_element(options.promptTokens);
  int64_t step = std::max(*std::ranges::max_element(options.decodeTokens),
                          *std::ranges::max_element(options.stepTokens));
  // A round may go beyond the tokens that were asked for.
  step += kMaxStepTokens;
  return std::max(most, step + *std::ranges::max_element(options.depths));
}

Status bench(const BenchOptions &given) {
  BenchOptions options = given;
  LATHE_RETURN_IF_ERROR(checkAccept(options));
  LATHE_RETURN_IF_ERROR(checkProfile(options.model));
  if (options.model.context == 0)
    options.model.context = contextFor(options);
  if (options.model.device != "cpu")
    options.model.decodeTokens = options.stepTokens;
  LATHE_ASSIGN_OR_RETURN(LoadedModel model, loadModel(options.model));
  if (!options.model.profile.empty())
    return benchProfile(options, model);
  if (model.cudaEngine)
    return benchCuda(options, model);
  std::vector<Row> rows;
  std::vector<double> ledger(model.compiled->plan.kernels.size());
  if (options.ledger)
    model.cpuEngine->recordTimes(&ledger);
  for (int64_t tokens : options.promptTokens) {
    if (tokens <= 0)
      continue;
    LATHE_ASSIGN_OR_RETURN(
        Row row, benchPrompt(*model.engine, tokens, options.repetitions));
    rows.push_back(row);
  }
  for (int64_t depth : options.depths)
    for (int64_t tokens : options.decodeTokens) {
      if (tokens <= 0)
        continue;
      LATHE_ASSIGN_OR_RETURN(
          Row row, benchDecode(model, tokens, depth, options.repetitions));
      rows.push_back(row);
      if (model.spec.mode == SpecOptions::Mode::Off)
        continue;
      LATHE_ASSIGN_OR_RETURN(RoundsRow rounds,
                             benchRounds(model, options, tokens, depth));
      rows.push_back({rounds.test, rounds.rates, 0, {}, rounds});
    }
  if (options.json)
    printJson(rows, model);
  else
    printTable(rows);
  if (options.ledger)
    printLedger(model, ledger);
  return absl::OkStatus();
}

} // namespace lathe::cli
