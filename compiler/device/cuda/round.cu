//===- round.cu - the entries between the parts of a round -----*- CUDA -*-===//
//
// See runtime/base/CudaRound.h.
//
//===----------------------------------------------------------------------===//

#include "compiler/device/cuda/prelude.cuh"
#include "runtime/base/CudaRound.h"
#include "runtime/base/SamplerMath.h"

namespace lathe {

/// Copies the row of the last accepted token, `vectors` 16-byte words.
LATHE_KERNEL(256, 1)
round_row(const LatheRound *round, const Float4 *rows, Float4 *to,
          int vectors) {
  waitForPrevious();
  launchNext();
  const Float4 *from = rows + (i64)round->accepted * vectors;
  for (int i = blockX() * threadCount() + threadX(); i < vectors;
       i += gridX() * threadCount())
    to[i] = loadFresh(from + i);
}

/// How many drafts hold: those that were chosen, or as many as a benchmark
/// asks.
LATHE_DEVICE int acceptedOf(LatheRound &round, const int *tokens, int drafts) {
  int accepted = 0;
  if (round.forcedCount == 0) {
    while (accepted < drafts && tokens[accepted + 1] == round.choices[accepted])
      ++accepted;
    return accepted;
  }
  const u64 bits = exact::positionKey(1, (i64)++round.forcedRounds);
  const float draw = (float)(int)(bits >> 40) * 0x1p-24f;
  while (accepted < drafts && accepted < round.forcedCount &&
         draw < round.forced[accepted])
    ++accepted;
  return accepted;
}

LATHE_DEVICE void settleRound(LatheRound &round, int *tokens, int drafts) {
  const int accepted = acceptedOf(round, tokens, drafts);
  const int last = round.choices[accepted];
  for (int i = 0; i < LATHE_REPLAY_TOKENS; ++i)
    round.chosen[i] = i < accepted ? tokens[i + 1] : last;
  round.accepted = accepted;
  tokens[0] = last;
  placeRound(round, round.trunk.position, drafts + 1);
}

/// Compares the drafts in tokens[1..drafts] with the choices, and leaves what
/// the next round starts from: tokens[0] and all of `round`. `host` gets a copy
/// of that; a copy that is no kernel would hold up the graph.
LATHE_KERNEL(32, 1)
round_accept(LatheRound *round, int *tokens, int drafts, LatheRound *host) {
  waitForPrevious();
  launchNext();
  if (threadX() == 0)
    settleRound(*round, tokens, drafts);
  syncWarp();
  const int *from = (const int *)round;
  for (int i = threadX(); i < (int)(sizeof(LatheRound) / sizeof(int)); i += 32)
    ((int *)host)[i] = from[i];
}

} // namespace lathe
