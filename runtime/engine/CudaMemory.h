//===- CudaMemory.h - where everything lies on the GPU ----------*- C++ -*-===//
//
// One buffer holds all device memory of a sequence; this lays it out, so that
// what `infer plan` prints and what is allocated are the same bytes. Entries of
// one function share their inputs and outputs, which are as large as the
// largest needs them.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_CUDAMEMORY_H
#define LATHE_RUNTIME_ENGINE_CUDAMEMORY_H

#include "runtime/artifact/Plan.h"
#include "runtime/base/Replay.h"
#include "runtime/engine/MemoryPlan.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace lathe {

/// Bytes of a piece of a weight on its way to the GPU. Two pieces are under way
/// at a time.
inline constexpr int64_t kUploadBytes = 32 << 20;

/// Room for how to choose, and for the choices: a LatheSampling, another one
/// for drafts, and 256 bytes behind the first the tokens and then their
/// statuses.
inline constexpr int64_t kSamplingBytes = 512;
inline constexpr int64_t kDraftSamplingAt = 128;
inline constexpr int64_t kChoiceAt = 256;
inline constexpr int64_t kChoiceBytes =
    2 * LATHE_REPLAY_TOKENS * int64_t(sizeof(int));

/// Byte offsets from the start of the buffer, all multiples of 256.
struct CudaMemory {
  struct Io {
    std::vector<int64_t> inputs, outputs;
  };

  std::vector<int64_t> weights; ///< by index in the plan
  std::vector<int64_t> states;  ///< by index in the plan
  std::map<std::string, Io> io; ///< by function
  int64_t arena = 0;
  int64_t scratch = 0;
  int64_t counters = 0;
  int64_t steps = 0; ///< a LatheStep per entry, 256 bytes apart
  /// A table of LatheStage per persistent step, by index in the plan.
  std::vector<int64_t> stepTables;
  int64_t sampling = 0;
  /// Only with an MTP layer: hidden rows that it has yet to see, one row of its
  /// own, a LatheRound, and the tokens of the draft head's rows.
  int64_t keptRows = 0, draftRow = 0, round = 0, draftIds = 0;
  int64_t upload = 0;
  int64_t weightBytes = 0, stateBytes = 0;
  int64_t total = 0;

  MemoryPlan table; ///< the same as rows
};

/// Launches of trunk and head for `tokens`.
int64_t stepLaunches(const Plan &plan, int64_t tokens);

/// REQUIRES: a plan for a CUDA target.
CudaMemory layOutCuda(const Plan &plan, int64_t context);

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_CUDAMEMORY_H
