//===- MemoryPlan.h - what a plan needs, to the byte ------------*- C++ -*-===//
//
// Computed before any memory is touched, so that "fits" means "runs": nothing
// is allocated after load.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_MEMORYPLAN_H
#define LATHE_RUNTIME_ENGINE_MEMORYPLAN_H

#include "runtime/artifact/Plan.h"
#include "runtime/base/Status.h"

#include <string>
#include <vector>

namespace lathe {

struct MemoryRow {
  std::string what;
  int64_t bytes;
};

/// What rounds of speculation need beyond plain decoding.
struct RoundMemory {
  int64_t drafts = 0; ///< most of a round
  /// What drafting with the MTP layer needs, however many the drafts are: its
  /// weights, cache and rows, and the draft head.
  int64_t mtp = 0;
  /// The rest: inputs to replay, logits, and what grows with them.
  int64_t positions = 0;
};

struct MemoryPlan {
  int64_t context;             ///< positions per KV cache
  std::vector<MemoryRow> rows; ///< weights, KV, states, workspace...
  int64_t total = 0;
  int64_t kvBytesPerToken = 0;
  /// A part of `total`; drafts 0 where the plan has no rounds.
  RoundMemory rounds;

  /// The table that `infer plan` prints.
  std::string table() const;
};

/// The memory of `plan` with a context of `context` positions and `threads`
/// threads.
MemoryPlan planMemory(const Plan &plan, int64_t context, int threads);

/// capacityError with the table and the largest context that would fit when
/// `memory` needs more than `available` bytes.
Status checkFits(const MemoryPlan &memory, int64_t available);

/// Scratch that the kernels of a plan share, and that each thread needs.
int64_t sharedScratch(const Plan &plan);
int64_t localScratch(const Plan &plan);
/// The largest arena of the plan's entries.
int64_t arenaBytes(const Plan &plan);
/// Bytes of an input or output of an entry.
int64_t ioBytes(const PlannedIo &io, int64_t tokens);

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_MEMORYPLAN_H
