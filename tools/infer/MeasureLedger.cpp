#include "tools/infer/MeasureLedger.h"

#include "tools/infer/StepBytes.h"

#include <algorithm>
#include <map>

namespace lathe::cli {

namespace {

constexpr int kRepetitions = 10, kOfThePieces = 15, kOfTheStep = 20;

/// Launches at the start and at the end of a step in which calls are timed: a
/// difference of two times is as exact as these are short.
constexpr size_t kWindow = 56;
/// Calls at the start of the later window that do not count: nothing comes
/// before them.
constexpr size_t kRunIn = 6;

/// Stages are timed on so many times fewer multiprocessors, too.
constexpr int kFewer[] = {2, 4};

using Space = PlannedOperand::Space;

bool readsCache(const Plan &plan, const PlannedLaunch &launch) {
  return std::ranges::any_of(
      launch.operands, [&](const PlannedOperand &operand) {
        return operand.space == Space::State &&
               plan.states[size_t(operand.value)].kind == StateKind::Kv;
      });
}

/// Fills in a ledger, stage by stage.
class Measurer {
public:
  Measurer(CudaEngine &engine, const Plan &plan, Ledger &ledger)
      : engine(engine), plan(plan), ledger(ledger),
        sms(plan.profile.sms > 0 ? plan.profile.sms
                                 : engine.context().device().sms) {}

  Status run() {
    for (const char *function : {"trunk", "head"})
      LATHE_RETURN_IF_ERROR(list(function));
    list("choice", {}, PlannedLaunch{-1, {}});
    engine.skipTo(ledger.depth);
    LATHE_RETURN_IF_ERROR(timeInStep());
    LATHE_RETURN_IF_ERROR(timeAlone());
    LATHE_RETURN_IF_ERROR(timeOnFewer());
    return timeWithoutCache();
  }

private:
  /// What a stage is in the plan; kernel -1: the choice.
  struct Source {
    std::string function;
    int32_t kernel;
    bool readsCache = false;
  };

  Status list(const std::string &function) {
    const PlannedEntry *entry = plan.find(function, ledger.tokens);
    if (!entry || entry->prefill)
      return internalError("the plan has no " + function + " of " +
                           std::to_string(ledger.tokens) + " tokens");
    for (const PlannedLaunch &launch : entry->launches)
      list(function, readsOf(plan, launch), launch);
    return absl::OkStatus();
  }

  /// One more call, of a stage that may be known.
  void list(const std::string &function, const std::string &what,
            const PlannedLaunch &launch) {
    const int32_t kernel = launch.kernel;
    auto [found, fresh] =
        known.emplace(std::pair(function, kernel), int(ledger.stages.size()));
    ledger.order.push_back(found->second);
    if (fresh) {
      sources.push_back({function, kernel, readsCache(plan, launch)});
      LedgerStage &stage = ledger.stages.emplace_back();
      stage.section = function;
      stage.what = what;
      stage.kernel = kernel < 0 ? "sample" : plan.kernels[size_t(kernel)].name;
      stage.bytes = launchBytes(plan, launch, ledger.depth);
      if (kernel >= 0)
        stage.registers = plan.kernels[size_t(kernel)].stages.back().registers;
    }
    ++ledger.stages[size_t(found->second)].calls;
  }

  /// A call adds to a run of launches what the run takes longer when it ends
  /// behind the call instead of before it.
  Status timeInStep() {
    const size_t all = ledger.order.size();
    std::vector<int> counted(ledger.stages.size());
    const size_t late = all > 2 * kWindow ? all - kWindow : 0;
    if (late > 0)
      LATHE_RETURN_IF_ERROR(timeWindow(0, kWindow, 0, counted));
    LATHE_RETURN_IF_ERROR(
        timeWindow(late, all, late > 0 ? kRunIn : 0, counted));
    for (size_t i = 0; i < ledger.stages.size(); ++i) {
      LedgerStage &stage = ledger.stages[i];
      if (counted[i] == 0)
        return internalError("stage " + stage.kernel +
                             " is only in the middle of the step");
      stage.times.inStep = std::max(stage.times.inStep / counted[i], 0.0);
    }
    LATHE_ASSIGN_OR_RETURN(
        CudaEngine::Timing step,
        engine.timeRange(ledger.tokens, 0, int64_t(all), kOfTheStep));
    ledger.measured = step.seconds;
    return absl::OkStatus();
  }

  Status timeWindow(size_t begin, size_t end, size_t runIn,
                    std::vector<int> &counted) {
    CudaEngine::Timing before;
    for (size_t i = begin; i < end; ++i) {
      LATHE_ASSIGN_OR_RETURN(CudaEngine::Timing until,
                             engine.timeRange(ledger.tokens, int64_t(begin),
                                              int64_t(i) + 1, kOfThePieces));
      const size_t index = size_t(ledger.order[i]);
      LedgerStage &stage = ledger.stages[index];
      stage.launches = stage.calls * (until.launches - before.launches);
      if (i >= begin + runIn) {
        stage.times.inStep += until.seconds - before.seconds;
        ++counted[index];
      }
      before = until;
    }
    return absl::OkStatus();
  }

  /// Of one call.
  StatusOr<double> time(size_t index, CudaEngine::TimeOptions options) {
    options.repetitions = kRepetitions;
    LATHE_ASSIGN_OR_RETURN(CudaEngine::Timing timing,
                           engine.time(sources[index].function, ledger.tokens,
                                       sources[index].kernel, options));
    return timing.seconds / ledger.stages[index].calls;
  }

  Status timeAlone() {
    for (size_t i = 0; i < sources.size(); ++i) {
      StageTimes &times = ledger.stages[i].times;
      times.alone = times.inStep;
      if (sources[i].kernel < 0)
        continue;
      LATHE_ASSIGN_OR_RETURN(times.alone, time(i, {}));
      LATHE_ASSIGN_OR_RETURN(times.empty, time(i, {.empty = true}));
      times.onSms = {{sms, times.alone}};
    }
    return absl::OkStatus();
  }

  Status timeOnFewer() {
    for (int fewer : kFewer) {
      // SmHold frees pairs best.
      const int free = std::max(sms / fewer / 2 * 2, 1);
      LATHE_ASSIGN_OR_RETURN(std::unique_ptr<SmHold> hold, engine.hold(free));
      for (size_t i = 0; i < sources.size(); ++i) {
        if (sources[i].readsCache || ledger.stages[i].bytes == 0)
          continue;
        LATHE_ASSIGN_OR_RETURN(double seconds, time(i, {.sms = free}));
        ledger.stages[i].times.onSms.push_back({free, seconds});
      }
      LATHE_RETURN_IF_ERROR(hold->check());
    }
    return absl::OkStatus();
  }

  Status timeWithoutCache() {
    engine.skipTo(0);
    for (size_t i = 0; i < sources.size(); ++i)
      if (sources[i].readsCache) {
        LATHE_ASSIGN_OR_RETURN(ledger.stages[i].times.withoutCache,
                               time(i, {}));
      }
    engine.skipTo(ledger.depth);
    return absl::OkStatus();
  }

  CudaEngine &engine;
  const Plan &plan;
  Ledger &ledger;
  const int sms;
  std::vector<Source> sources; ///< by stage
  std::map<std::pair<std::string, int32_t>, int> known;
};

} // namespace

StatusOr<Ledger> measureLedger(CudaEngine &engine, const Plan &plan,
                               int64_t tokens, int64_t depth,
                               double bandwidth) {
  Ledger ledger;
  ledger.device = engine.context().device().name;
  ledger.tokens = tokens;
  ledger.depth = depth;
  ledger.bandwidth = bandwidth;
  LATHE_RETURN_IF_ERROR(Measurer(engine, plan, ledger).run());
  return ledger;
}

} // namespace lathe::cli
