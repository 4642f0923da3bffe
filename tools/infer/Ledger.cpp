#include "tools/infer/Ledger.h"

#include "tools/infer/Numbers.h"

#include <algorithm>
#include <numeric>

namespace lathe::cli {

double Ledger::seconds() const {
  return std::accumulate(stages.begin(), stages.end(), 0.0,
                         [](double sum, const LedgerStage &stage) {
                           return sum + stage.seconds();
                         });
}

double Ledger::bytes() const {
  return std::accumulate(stages.begin(), stages.end(), 0.0,
                         [](double sum, const LedgerStage &stage) {
                           return sum + stage.calls * stage.bytes;
                         });
}

int Ledger::launches() const {
  return std::accumulate(
      stages.begin(), stages.end(), 0,
      [](int sum, const LedgerStage &stage) { return sum + stage.launches; });
}

namespace {

/// t(n) = fixed + work / n, through the two fewest multiprocessors, where
/// memory is no limit.
struct Fit {
  double fixed, work;
};

Fit fitOf(const std::vector<StageTimes::OnSms> &onSms) {
  const auto &few = onSms[onSms.size() - 1], &more = onSms[onSms.size() - 2];
  const double slope =
      (few.seconds - more.seconds) / (1.0 / few.sms - 1.0 / more.sms);
  const double work = std::max(slope, 0.0);
  return {std::max(more.seconds - work / more.sms, 0.0), work};
}

} // namespace

Explanation explain(const LedgerStage &stage, double bandwidth) {
  const StageTimes &times = stage.times;
  Explanation result;
  result.byteTime = stage.bytes / bandwidth;
  result.loss = std::max(times.inStep - result.byteTime, 0.0);
  // Of a stage that streams nothing all is fixed.
  double fixed = times.alone, arithmetic = 0;
  if (times.withoutCache) {
    fixed = *times.withoutCache;
  } else if (times.onSms.size() >= 3 && stage.bytes > 0) {
    const Fit fit = fitOf(times.onSms);
    fixed = fit.fixed;
    arithmetic =
        std::max(fit.work / times.onSms.front().sms - result.byteTime, 0.0);
  }
  double *const parts = result.parts;
  parts[int(Stall::Launch)] = std::min(times.empty, fixed);
  parts[int(Stall::Activations)] = fixed - parts[int(Stall::Launch)];
  parts[int(Stall::Arithmetic)] = arithmetic;
  const double known = fixed + arithmetic;
  if (known > result.loss)
    for (double &part : result.parts)
      part *= result.loss / known;
  else
    parts[int(Stall::Weights)] = result.loss - known;
  result.atLimit = result.loss < 0.1 * times.inStep;
  if (!result.atLimit)
    result.stall = Stall(std::max_element(parts, parts + 4) - parts);
  return result;
}

std::vector<size_t> largestLosses(const Ledger &ledger, size_t count) {
  std::vector<size_t> order(ledger.stages.size());
  std::iota(order.begin(), order.end(), size_t(0));
  auto gain = [&](size_t i) {
    const LedgerStage &stage = ledger.stages[i];
    return std::pair(-stage.calls * explain(stage, ledger.bandwidth).loss, i);
  };
  std::ranges::sort(order, {}, gain);
  order.resize(std::min(count, order.size()));
  return order;
}

const char *nameOf(Stall stall) {
  switch (stall) {
  case Stall::Weights:
    return "weights";
  case Stall::Activations:
    return "activations";
  case Stall::Arithmetic:
    return "arithmetic";
  case Stall::Launch:
    return "launch";
  }
  return "";
}

const char *meaningOf(Stall stall) {
  switch (stall) {
  case Stall::Weights:
    return "It waits for what it streams from memory (weights, states, cached "
           "keys and values): the time is neither launches nor preparation nor "
           "work of the multiprocessors.";
  case Stall::Activations:
    return "It waits for its activations: this time does not shrink when there "
           "is less to stream and multiply. Inputs of the stage before have to "
           "arrive, be normed and converted, and the last sums be finished, "
           "while memory idles.";
  case Stall::Arithmetic:
    return "The multiprocessors take longer over their share than memory takes "
           "over its bytes: instructions are the limit.";
  case Stall::Launch:
    return "As many launches of this shape that do nothing take most of this "
           "time.";
  }
  return "";
}

std::string ledgerTable(const Ledger &ledger) {
  std::string text =
      "T = " + std::to_string(ledger.tokens) + " at " +
      std::to_string(ledger.depth) +
      " positions: " + fixed(1e3 * ledger.measured, 3) + " ms, " +
      std::to_string(ledger.launches()) + " launches; the stages add up to " +
      fixed(1e3 * ledger.seconds(), 3) + " ms\n\n" +
      "| stage | calls | launches | MB each | us each | alone | ms | % of step "
      "| % of bandwidth | lost us | waits for | registers |\n"
      "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---:|\n";
  for (const LedgerStage &stage : ledger.stages) {
    const Explanation why = explain(stage, ledger.bandwidth);
    const std::string name =
        stage.what.empty() ? stage.kernel : stage.kernel + ": " + stage.what;
    text += "| " + name + " | " + std::to_string(stage.calls) + " | " +
            std::to_string(stage.launches) + " | " +
            fixed(stage.bytes / 1e6, 2) + " | " +
            fixed(1e6 * stage.times.inStep, 2) + " | " +
            fixed(1e6 * stage.times.alone, 2) + " | " +
            fixed(1e3 * stage.seconds(), 3) + " | " +
            fixed(100 * stage.seconds() / ledger.measured, 1) + " | " +
            fixed(100 * why.byteTime / stage.times.inStep, 1) + " | " +
            fixed(1e6 * stage.calls * why.loss, 0) + " | " + nameOf(why.stall) +
            (why.atLimit ? " (at the limit)" : "") + " | " +
            std::to_string(stage.registers) + " |\n";
  }
  return text;
}

} // namespace lathe::cli
