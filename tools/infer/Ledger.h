//===- Ledger.h - where the time of a step goes, and why --------*- C++ -*-===//
//
// A ledger is a list of stages, each all launches of one kernel in a section of
// the step, with what was measured of them. explain() divides what a stage
// takes beyond its bytes among four reasons. No profiler is needed: every
// number is a time of launches, and docs/performance.md says what each reason
// means and when it is wrong. Pure functions, thread-safe.
//
// Times are seconds. Those of a stage are of one call, a mean over its calls.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TOOLS_INFER_LEDGER_H
#define LATHE_TOOLS_INFER_LEDGER_H

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lathe::cli {

/// Why a stage takes longer than its bytes.
enum class Stall : uint8_t {
  Weights,     ///< waits for what it streams: weights, states, the KV cache
  Activations, ///< waits for its inputs, prepares them, finishes its outputs
  Arithmetic,  ///< multiplies and converts
  Launch,      ///< what a launch costs that does nothing
};

inline constexpr Stall kStalls[] = {Stall::Weights, Stall::Activations,
                                    Stall::Arithmetic, Stall::Launch};

/// What was measured of a stage.
struct StageTimes {
  double inStep = 0; ///< added to the step by the call
  double alone = 0;  ///< its calls back to back, as in the step otherwise
  double empty = 0;  ///< empty launches of the same shape instead
  /// Back to back on so many multiprocessors, none the same and all of them
  /// first; or only that.
  struct OnSms {
    int sms;
    double seconds;
  };
  std::vector<OnSms> onSms;
  /// Back to back with an empty KV cache.
  std::optional<double> withoutCache;
};

struct LedgerStage {
  std::string section;         ///< of the step: "trunk", "head", "choice"
  std::string kernel;          ///< the plan's name
  std::string what;            ///< the weights and states that it reads
  int calls = 0, launches = 0; ///< per step; a call has one or more launches
  int registers = 0;
  double bytes = 0; ///< that a call has to move
  StageTimes times;

  double seconds() const { return calls * times.inStep; }
};

/// A step of some tokens, as it was measured.
struct Ledger {
  std::string model, device;
  int64_t tokens = 1, depth = 0;
  double bandwidth = 0; ///< bytes per second, measured in the same run
  double measured = 0;  ///< the whole step; that of its stages differs a little
  std::vector<LedgerStage> stages;
  std::vector<int> order; ///< the stage of each call, in the step's order

  double seconds() const; ///< of the stages together
  double bytes() const;
  int launches() const;
};

/// How the time of a call beyond its bytes divides.
struct Explanation {
  double byteTime = 0;            ///< of the bytes at the measured bandwidth
  double loss = 0;                ///< what a call takes beyond that in the step
  double parts[4] = {0, 0, 0, 0}; ///< by Stall; their sum is `loss`
  Stall stall = Stall::Weights;   ///< the largest; Weights near the limit
  bool atLimit = false;           ///< less than a tenth of the time is lost
};
Explanation explain(const LedgerStage &stage, double bandwidth);

/// Indices of the stages that lose most in a step, at most `count`, the
/// largest loss first.
std::vector<size_t> largestLosses(const Ledger &ledger, size_t count);

/// "weights", "activations", "arithmetic", "launch".
const char *nameOf(Stall stall);
/// What it means, as a sentence.
const char *meaningOf(Stall stall);

/// The table of `infer bench --ledger`, Markdown.
std::string ledgerTable(const Ledger &ledger);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_LEDGER_H
