//===- CudaRound.h - a round of speculation on the GPU ----------*- C++ -*-===//
//
// A round is one graph: the MTP layer over the slots that the last round left,
// drafts one by one, the trunk over all of them, the choices, and which drafts
// hold. Its launches find their positions here, the host reads the outcome
// here, and a round leaves behind what the next one starts from. Header-free.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_BASE_CUDAROUND_H
#define LATHE_RUNTIME_BASE_CUDAROUND_H

#include "runtime/base/CudaAbi.h"

#define LATHE_ROUND_DRAFTS (LATHE_REPLAY_TOKENS - 1)

struct LatheRound {
  LatheStep slots; ///< of the first draft: from the first slot not yet true
  LatheStep trunk; ///< the verified step
  /// Draft i, from the second one on: its slot.
  LatheStep slot[LATHE_ROUND_DRAFTS];
  /// Draft i: the token before it.
  LatheStep before[LATHE_ROUND_DRAFTS];

  /// What the last round came to: the accepted drafts and one token more, then
  /// copies of it.
  int chosen[LATHE_REPLAY_TOKENS];
  int accepted;
  int base;                         ///< position of the MTP layer's first slot
  int choices[LATHE_REPLAY_TOKENS]; ///< behind each token of the step
  int status[LATHE_REPLAY_TOKENS];
  int draftStatus[LATHE_ROUND_DRAFTS];

  /// Benchmarks: the share of rounds in which draft i counts as accepted.
  float forced[LATHE_ROUND_DRAFTS];
  int forcedCount;
  unsigned long long forcedRounds;
};

#ifdef __CUDACC__
#define LATHE_ROUND static __device__ __forceinline__
#else
#define LATHE_ROUND static inline
#endif

namespace lathe {

/// Sets the steps of a round that follows one with `accepted` drafts whose
/// first token stood at `start`; `tokens`: of the step that is to come.
LATHE_ROUND void placeRound(LatheRound &round, int start, int tokens) {
  const int counted = round.accepted + 1, next = start + counted;
  round.slots = {start - round.base, tokens, 0};
  round.trunk = {next, tokens, counted};
  for (int i = 0; i < LATHE_ROUND_DRAFTS; ++i) {
    round.slot[i] = {next - 1 + i - round.base, 1, 0};
    round.before[i] = {next + i, 1, 0};
  }
}

} // namespace lathe

#endif // LATHE_RUNTIME_BASE_CUDAROUND_H
