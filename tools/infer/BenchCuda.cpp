//===- BenchCuda.cpp - infer bench on a GPU -------------------------------===//
//
// Device times come from graph replays between events; prompts and generation
// are timed from outside, as a user waits for them. Percentages are of the read
// bandwidth measured in the same run.
//
//===----------------------------------------------------------------------===//

#include "tools/infer/BenchCuda.h"

#include "tools/infer/BenchRounds.h"
#include "tools/infer/LedgerPage.h"
#include "tools/infer/MeasureLedger.h"
#include "tools/infer/RoundLedger.h"
#include "tools/infer/StepBytes.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>

namespace lathe::cli {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

static double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

static double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

static StatusOr<Json> benchPrompt(CudaEngine &engine, int64_t tokens,
                                  int repetitions) {
  const auto ids = tokensFor(tokens, engine.vocab());
  std::vector<double> seconds;
  for (int i = -1; i < repetitions; ++i) { // the first one warms up
    LATHE_RETURN_IF_ERROR(engine.reset());
    const auto start = Clock::now();
    LATHE_RETURN_IF_ERROR(engine.feed(ids));
    LATHE_RETURN_IF_ERROR(engine.sample().status());
    if (i >= 0)
      seconds.push_back(secondsSince(start));
  }
  const double time = median(seconds);
  return Json{{"test", "pp" + std::to_string(tokens)},
              {"tok_s", double(tokens) / time},
              {"ms_to_first_token", 1e3 * time}};
}

/// Tokens as infer run makes them, one by one, the host included.
static StatusOr<Json> benchDecode(CudaEngine &engine, int64_t tokens,
                                  int64_t depth, int repetitions,
                                  double bandwidth, const Plan &plan) {
  std::vector<double> seconds;
  for (int i = -1; i < repetitions; ++i) {
    LATHE_RETURN_IF_ERROR(engine.reset());
    engine.skipTo(depth);
    int32_t token = 13;
    const auto start = Clock::now();
    for (int64_t t = 0; t < tokens; ++t) {
      LATHE_ASSIGN_OR_RETURN(token, engine.step(token));
    }
    if (i >= 0)
      seconds.push_back(secondsSince(start) / double(tokens));
  }
  const double time = median(seconds);
  const double bytes = stepBytes(plan, 1, depth + tokens / 2);
  return Json{
      {"test", "tg" + std::to_string(tokens) + " @ d" + std::to_string(depth)},
      {"tok_s", 1 / time},
      {"ms_per_token", 1e3 * time},
      {"bytes_per_token", bytes},
      {"percent_of_read_bandwidth", 100 * bytes / time / bandwidth}};
}

/// A step of T tokens on the device alone.
static StatusOr<Json> benchStep(CudaEngine &engine, int64_t tokens,
                                int64_t depth, int repetitions,
                                double bandwidth, const Plan &plan) {
  LATHE_RETURN_IF_ERROR(engine.reset());
  engine.skipTo(depth);
  LATHE_ASSIGN_OR_RETURN(auto timing, engine.timeStep(tokens, repetitions));
  const double bytes = stepBytes(plan, tokens, depth);
  return Json{
      {"test",
       "step T=" + std::to_string(tokens) + " @ d" + std::to_string(depth)},
      {"tokens", tokens},
      {"depth", depth},
      {"ms", 1e3 * timing.seconds},
      {"launches", timing.launches},
      {"bytes", bytes},
      {"percent_of_read_bandwidth", 100 * bytes / timing.seconds / bandwidth}};
}

/// The parts of a round on the device alone, against the bytes of the step that
/// they are a part of.
static Status addRound(CudaEngine &engine, int64_t drafts, int64_t depth,
                       Json &rows) {
  using Part = CudaEngine::RoundPart;
  const std::string where = " @ d" + std::to_string(depth);
  for (auto [part, name] : {std::pair{Part::Drafts, "drafts"},
                            {Part::Verify, "verify"},
                            {Part::Accept, "accept"},
                            {Part::All, "all"}}) {
    LATHE_RETURN_IF_ERROR(engine.reset());
    engine.skipTo(depth);
    LATHE_ASSIGN_OR_RETURN(auto timing, engine.timeRound(drafts, part, 20));
    rows.push_back({{"test", "round of " + std::to_string(drafts) +
                                 " drafts, " + name + where},
                    {"drafts", drafts},
                    {"depth", depth},
                    {"ms", 1e3 * timing.seconds},
                    {"launches", timing.launches}});
  }
  return absl::OkStatus();
}

/// Rounds as infer run plays them, one by one, the host included.
static StatusOr<Json> roundsRow(const BenchOptions &options,
                                const LoadedModel &model, int64_t tokens,
                                int64_t depth) {
  LATHE_ASSIGN_OR_RETURN(RoundsRow row,
                         benchRounds(model, options, tokens, depth));
  Json json{{"test", row.test},
            {"tok_s", median(row.rates)},
            {"ms", 1e3 * row.stats.seconds / double(row.stats.rounds)}};
  json.update(toJson(row));
  json["description"] = describe(row);
  return json;
}

/// A ledger's stages as rows of the report.
static Json toJson(const Ledger &ledger) {
  Json rows = Json::array();
  for (const LedgerStage &stage : ledger.stages) {
    const Explanation why = explain(stage, ledger.bandwidth);
    Json parts, fewer = Json::array();
    for (Stall stall : kStalls)
      parts[nameOf(stall)] = 1e6 * why.parts[int(stall)];
    for (const StageTimes::OnSms &on : stage.times.onSms)
      fewer.push_back({{"sms", on.sms}, {"us", 1e6 * on.seconds}});
    Json row{
        {"kernel", stage.kernel},
        {"section", stage.section},
        {"reads", stage.what},
        {"tokens", ledger.tokens},
        {"depth", ledger.depth},
        {"calls", stage.calls},
        {"step_ms", 1e3 * ledger.measured},
        {"launches", stage.launches},
        {"us_per_call", 1e6 * stage.times.inStep},
        {"us_alone", 1e6 * stage.times.alone},
        {"us_empty", 1e6 * stage.times.empty},
        {"on_multiprocessors", fewer},
        {"ms_per_step", 1e3 * stage.seconds()},
        {"percent_of_step", 100 * stage.seconds() / ledger.measured},
        {"mb_per_call", stage.bytes / 1e6},
        {"registers", stage.registers},
        {"percent_of_read_bandwidth", 100 * why.byteTime / stage.times.inStep},
        {"us_lost_per_step", 1e6 * stage.calls * why.loss},
        {"us_lost_by_reason", parts},
        {"waits_for", nameOf(why.stall)},
        {"at_limit", why.atLimit}};
    if (stage.times.withoutCache)
      row["us_without_cache"] = 1e6 * *stage.times.withoutCache;
    rows.push_back(row);
  }
  return rows;
}

/// Ledgers of all steps that the options name, into the report and the page.
static Status addLedgers(const BenchOptions &options, LoadedModel &model,
                         double bandwidth, Json &report,
                         std::vector<Ledger> &ledgers) {
  for (int64_t depth : options.depths)
    for (int64_t tokens : options.stepTokens) {
      LATHE_ASSIGN_OR_RETURN(
          Ledger ledger, measureLedger(*model.cudaEngine, model.compiled->plan,
                                       tokens, depth, bandwidth));
      ledger.model = model.compiled->modelType;
      for (Json &row : toJson(ledger))
        report["ledger"].push_back(std::move(row));
      ledgers.push_back(std::move(ledger));
    }
  if (options.ledgerPage.empty())
    return absl::OkStatus();
  std::ofstream file(options.ledgerPage, std::ios::binary);
  file << ledgerPage(ledgers);
  file.close();
  if (!file)
    return usageError("--ledger-html: cannot write " + options.ledgerPage);
  return absl::OkStatus();
}

static void printTable(const Json &report) {
  std::printf("%s, %.0f GB/s readable; load %.2f s; plan %lld B, driver %lld "
              "B\n\n",
              report["device"].get<std::string>().c_str(),
              report["read_bandwidth_bytes_s"].get<double>() / 1e9,
              report["load_ms"].get<double>() / 1e3,
              report["plan_bytes"].get<long long>(),
              report["driver_bytes"].get<long long>());
  for (const Json &row : report["results"])
    if (row.contains("description"))
      std::printf("%s\n\n", row["description"].get<std::string>().c_str());
  std::printf("| test | tok/s | ms | launches | GB | %% of read bandwidth |\n"
              "|---|---:|---:|---:|---:|---:|\n");
  for (const Json &row : report["results"]) {
    const double ms = row.contains("ms") ? row["ms"].get<double>()
                      : row.contains("ms_per_token")
                          ? row["ms_per_token"].get<double>()
                          : row["ms_to_first_token"].get<double>();
    const double bytes = row.contains("bytes")
                             ? row["bytes"].get<double>()
                             : row.value("bytes_per_token", 0.0);
    std::printf("| %s | %.1f | %.3f | %d | %.3f | %.1f |\n",
                row["test"].get<std::string>().c_str(),
                row.contains("tok_s") ? row["tok_s"].get<double>()
                                      : 1e3 * row.value("tokens", 0.0) / ms,
                ms, row.value("launches", 0), bytes / 1e9,
                row.value("percent_of_read_bandwidth", 0.0));
  }
}

Status benchCuda(const BenchOptions &options, LoadedModel &model) {
  CudaEngine &engine = *model.cudaEngine;
  const Plan &plan = model.compiled->plan;
  LATHE_ASSIGN_OR_RETURN(double bandwidth, engine.readBandwidth());
  Json report{{"schema_version", 1},
              {"model_type", model.compiled->modelType},
              {"device", model.device},
              {"target", plan.target},
              {"compile_ms",
               model.compiled->stats.graphMs + model.compiled->stats.kernelMs},
              {"load_ms", model.loadMs},
              {"plan_bytes", engine.memory().total},
              {"driver_bytes", engine.driverBytes()},
              {"read_bandwidth_bytes_s", bandwidth},
              {"results", Json::array()}};
  auto add = [&](StatusOr<Json> row) -> Status {
    if (row.ok())
      report["results"].push_back(*row);
    return row.status();
  };
  for (int64_t tokens : options.promptTokens)
    if (tokens > 0)
      LATHE_RETURN_IF_ERROR(
          add(benchPrompt(engine, tokens, options.repetitions)));
  const bool rounds = model.spec.mode != SpecOptions::Mode::Off;
  if (rounds)
    LATHE_RETURN_IF_ERROR(Speculator::create(engine, model.spec).status());
  for (int64_t depth : options.depths) {
    if (model.spec.mode == SpecOptions::Mode::Mtp)
      LATHE_RETURN_IF_ERROR(
          addRound(engine, model.spec.drafts, depth, report["results"]));
    for (int64_t tokens : options.decodeTokens)
      if (tokens > 0 && rounds)
        LATHE_RETURN_IF_ERROR(add(roundsRow(options, model, tokens, depth)));
    for (int64_t tokens : options.decodeTokens)
      if (tokens > 0)
        LATHE_RETURN_IF_ERROR(add(benchDecode(
            engine, tokens, depth, options.repetitions, bandwidth, plan)));
    for (int64_t tokens : options.stepTokens)
      LATHE_RETURN_IF_ERROR(
          add(benchStep(engine, tokens, depth, 20, bandwidth, plan)));
  }
  std::vector<RoundLedger> roundLedgers;
  if (options.ledger && model.spec.mode == SpecOptions::Mode::Mtp)
    for (int64_t depth : options.depths) {
      LATHE_ASSIGN_OR_RETURN(
          auto ledger,
          measureRound(engine, plan, model.spec.drafts, depth, bandwidth));
      report["round_ledger"].push_back(toJson(ledger));
      roundLedgers.push_back(std::move(ledger));
    }
  std::vector<Ledger> ledgers;
  if (options.ledger || !options.ledgerPage.empty())
    LATHE_RETURN_IF_ERROR(
        addLedgers(options, model, bandwidth, report, ledgers));
  if (options.json) {
    std::printf("%s\n", report.dump(2).c_str());
    return absl::OkStatus();
  }
  printTable(report);
  for (const RoundLedger &ledger : roundLedgers)
    std::printf("\n%s", tableOf(ledger).c_str());
  for (const Ledger &ledger : ledgers)
    std::printf("\n%s", ledgerTable(ledger).c_str());
  return absl::OkStatus();
}

} // namespace lathe::cli
