//===- RoundLedger.h - where the time of a round goes -----------*- C++ -*-===//
//
// A round of MTP drafts, kernel by kernel, in its three parts: drafts, verify,
// accept. A call takes what the round takes longer when it ends behind the call
// instead of before it, so that the rows add up to the round.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TOOLS_INFER_ROUNDLEDGER_H
#define LATHE_TOOLS_INFER_ROUNDLEDGER_H

#include "runtime/engine/CudaEngine.h"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace lathe::cli {

struct RoundLedger {
  /// All calls of one kernel in one part.
  struct Row {
    CudaEngine::RoundPart part;
    std::string kernel; ///< the plan's name, or "row", "choice", "accept"
    std::string reads;  ///< weights and states
    int calls = 0, launches = 0;
    double bytes = 0, seconds = 0; ///< of all calls
  };

  int64_t drafts = 0, depth = 0;
  double bandwidth = 0; ///< bytes per second, measured in the same run
  std::vector<Row> rows;
};

/// REQUIRES: Engine::startMtp(), a plan with rounds of `drafts`. Forgets what
/// the engine was fed.
StatusOr<RoundLedger> measureRound(CudaEngine &engine, const Plan &plan,
                                   int64_t drafts, int64_t depth,
                                   double bandwidth);

/// Markdown, a section per part and its sum behind it.
std::string tableOf(const RoundLedger &ledger);
nlohmann::ordered_json toJson(const RoundLedger &ledger);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_ROUNDLEDGER_H
