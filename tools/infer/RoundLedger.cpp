#include "tools/infer/RoundLedger.h"

#include "tools/infer/Numbers.h"
#include "tools/infer/StepBytes.h"

#include <algorithm>

namespace lathe::cli {

using Part = CudaEngine::RoundPart;

static constexpr int kRepetitions = 7;

static const char *nameOf(Part part) {
  switch (part) {
  case Part::Drafts:
    return "drafts";
  case Part::Verify:
    return "verify";
  case Part::Accept:
    return "accept";
  case Part::All:
    break;
  }
  return "all";
}

/// The row of a call, fresh or known.
static RoundLedger::Row &rowOf(const CudaEngine::RoundCall &call,
                               const Plan &plan, RoundLedger &ledger) {
  std::string kernel(call.function), reads;
  if (call.launch) {
    kernel = plan.kernels[size_t(call.launch->kernel)].name;
    reads = readsOf(plan, *call.launch);
  }
  auto row = std::ranges::find_if(ledger.rows, [&](const auto &known) {
    return known.part == call.part && known.kernel == kernel;
  });
  if (row != ledger.rows.end())
    return *row;
  return ledger.rows.emplace_back(
      RoundLedger::Row{call.part, std::move(kernel), std::move(reads)});
}

StatusOr<RoundLedger> measureRound(CudaEngine &engine, const Plan &plan,
                                   int64_t drafts, int64_t depth,
                                   double bandwidth) {
  RoundLedger ledger{drafts, depth, bandwidth, {}};
  LATHE_RETURN_IF_ERROR(engine.reset());
  engine.skipTo(depth);
  LATHE_ASSIGN_OR_RETURN(auto calls, engine.roundCalls(drafts));
  CudaEngine::Timing before;
  for (size_t i = 0; i < calls.size(); ++i) {
    LATHE_ASSIGN_OR_RETURN(
        CudaEngine::Timing until,
        engine.timeRound(drafts, Part::All, kRepetitions, i + 1));
    RoundLedger::Row &row = rowOf(calls[i], plan, ledger);
    ++row.calls;
    row.launches += until.launches - before.launches;
    row.seconds += until.seconds - before.seconds;
    if (calls[i].launch)
      row.bytes += launchBytes(plan, *calls[i].launch, depth);
    before = until;
  }
  return ledger;
}

/// One line of the table; a sum without calls.
static std::string lineOf(const RoundLedger::Row &row, double bandwidth,
                          bool sum) {
  const double calls = std::max(row.calls, 1);
  std::string line = "| " + row.kernel + " | " + row.reads + " | ";
  line += sum ? " | " : std::to_string(row.calls) + " | ";
  line += std::to_string(row.launches) + " | ";
  line += sum ? " | " : fixed(1e6 * row.seconds / calls, 2) + " | ";
  line += fixed(1e3 * row.seconds, 3) + " | " + fixed(row.bytes / 1e6, 1);
  line += " | ";
  if (row.bytes > 0)
    line += fixed(100 * row.bytes / bandwidth / row.seconds, 1);
  return line + " |\n";
}

std::string tableOf(const RoundLedger &ledger) {
  std::string text = "A round of " + std::to_string(ledger.drafts) +
                     " drafts at " + std::to_string(ledger.depth) +
                     " positions:\n\n| kernel | reads | calls | launches | us "
                     "each | ms | MB | % |\n|---|---|---:|---:|---:|---:|---:|"
                     "---:|\n";
  RoundLedger::Row all{Part::All, "**round**", ""};
  for (Part part : {Part::Drafts, Part::Verify, Part::Accept}) {
    RoundLedger::Row sum{part, "**" + std::string(nameOf(part)) + "**", ""};
    for (const RoundLedger::Row &row : ledger.rows) {
      if (row.part != part)
        continue;
      text += lineOf(row, ledger.bandwidth, false);
      for (RoundLedger::Row *to : {&sum, &all}) {
        to->launches += row.launches;
        to->bytes += row.bytes;
        to->seconds += row.seconds;
      }
    }
    text += lineOf(sum, ledger.bandwidth, true);
  }
  return text + lineOf(all, ledger.bandwidth, true);
}

nlohmann::ordered_json toJson(const RoundLedger &ledger) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const RoundLedger::Row &row : ledger.rows)
    rows.push_back({{"part", nameOf(row.part)},
                    {"kernel", row.kernel},
                    {"reads", row.reads},
                    {"calls", row.calls},
                    {"launches", row.launches},
                    {"ms", 1e3 * row.seconds},
                    {"mb", row.bytes / 1e6}});
  return {{"drafts", ledger.drafts}, {"depth", ledger.depth}, {"rows", rows}};
}

} // namespace lathe::cli
