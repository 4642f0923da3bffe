//===- scratch_mixers.h - scratch layouts of the mixer kernels --*- C++ -*-===//
//
// Where the Gated-DeltaNet and attention kernels keep their temporaries in
// LatheContext::local. The kernels take their offsets from here and the
// compiler takes the arena size (`bytes`) from the same functions, so the two
// cannot disagree. None of these kernels uses LatheContext::shared.
//
// Offsets and sizes are bytes, each array 64-byte aligned. Plain C++ with no
// vector types: host code includes this file too.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_SCRATCH_MIXERS_H
#define LATHE_COMPILER_DEVICE_CPU_SCRATCH_MIXERS_H

#include "runtime/base/KernelAbi.h"

namespace lathe {

struct DeltaShape {
  int keyHeads, valueHeads, keyDim, valueDim;
  int chunk;   ///< tokens per chunk; deltaChunk only
  bool replay; ///< the state can fold in pending tokens
};

struct AttentionShape {
  int heads, kvHeads, headDim, rotaryDim;
  int kvBytes; ///< bytes per cached element
};

/// Positions per softmax block. Blocks start at multiples of it, whatever the
/// number of tokens, so that a row's result depends on its position alone.
constexpr int kScoreBlock = 64;

/// Query tokens per work item of attentionPrefill: about 128 query rows over
/// the heads that share a kv head, in whole register tiles.
constexpr int prefillTileTokens(const AttentionShape &s) {
  int tokens = 128 / (s.heads / s.kvHeads) / 8 * 8;
  return tokens < 8 ? 8 : tokens > 64 ? 64 : tokens;
}

/// Hands out consecutive aligned pieces of one arena.
struct ScratchCursor {
  long long bytes = 0;
  constexpr long long take(long long size) {
    long long at = bytes;
    bytes += (size + 63) / 64 * 64;
    return at;
  }
  constexpr long long floats(long long count) { return take(count * 4); }
};

/// Most value columns of a state that deltaStep works on at once while several
/// tokens pass over them.
constexpr int kStepColumns = 64;

/// deltaStep: q and k of one key head, v of one value head, for every token;
/// with replay also for those that are folded in, and columns of the state as
/// tokens leave them that may still be taken back.
struct DeltaStepScratch {
  long long q, k, v, ahead, bytes;
};
constexpr DeltaStepScratch deltaStepScratch(const DeltaShape &s,
                                            int maxTokens) {
  ScratchCursor c;
  DeltaStepScratch r{};
  const long long rows = maxTokens + (s.replay ? LATHE_REPLAY_TOKENS : 0);
  r.q = c.floats(rows * s.keyDim);
  r.k = c.floats(rows * s.keyDim);
  r.v = c.floats(rows * s.valueDim);
  r.ahead = c.floats(s.replay ? (long long)s.keyDim * kStepColumns : 0);
  r.bytes = c.bytes;
  return r;
}

/// deltaChunk: one chunk of one key head, its value heads' states.
struct DeltaChunkScratch {
  long long q, k, kTransposed; ///< [chunk][K], [chunk][K], [K][chunk]
  long long kk, qk;            ///< [chunk][chunk] dot products
  long long lower, weights;    ///< [chunk][chunk], of one value head
  long long v;                 ///< [chunk][V]
  long long solved;            ///< [chunk][panel]
  long long gates;             ///< five rows of [chunk]
  long long state;             ///< per value head of the group, in panels
  long long bytes;             ///< of these, or of what folding needs before
};
constexpr DeltaChunkScratch deltaChunkScratch(const DeltaShape &s) {
  ScratchCursor c;
  DeltaChunkScratch r{};
  long long n = s.chunk, square = n * n;
  r.q = c.floats(n * s.keyDim);
  r.k = c.floats(n * s.keyDim);
  r.kTransposed = c.floats(n * s.keyDim);
  r.kk = c.floats(square);
  r.qk = c.floats(square);
  r.lower = c.floats(square);
  r.weights = c.floats(square);
  r.v = c.floats(n * s.valueDim);
  r.solved = c.floats(n * 32);
  r.gates = c.floats(5 * n);
  r.state =
      c.floats((long long)s.valueHeads / s.keyHeads * s.keyDim * s.valueDim);
  const long long fold = s.replay ? deltaStepScratch(s, 0).bytes : 0;
  r.bytes = c.bytes > fold ? c.bytes : fold;
  return r;
}

/// attentionDecode: the queries of one kv head and the new K and V rows.
struct AttentionDecodeScratch {
  long long q, sums;        ///< [tokens][group][D]
  long long peak, total;    ///< [tokens][group]
  long long kFresh, vFresh; ///< [tokens][D] in the cache's type
  long long cosines, sines; ///< [tokens][rotary / 2]
  long long bytes;
};
constexpr AttentionDecodeScratch attentionDecodeScratch(const AttentionShape &s,
                                                        int maxTokens) {
  ScratchCursor c;
  AttentionDecodeScratch r{};
  long long rows = (long long)maxTokens * (s.heads / s.kvHeads);
  r.q = c.floats(rows * s.headDim);
  r.sums = c.floats(rows * s.headDim);
  r.peak = c.floats(rows);
  r.total = c.floats(rows);
  r.kFresh = c.take((long long)maxTokens * s.headDim * s.kvBytes);
  r.vFresh = c.take((long long)maxTokens * s.headDim * s.kvBytes);
  r.cosines = c.floats((long long)maxTokens * s.rotaryDim / 2);
  r.sines = c.floats((long long)maxTokens * s.rotaryDim / 2);
  r.bytes = c.bytes;
  return r;
}

/// attentionPrefill: one tile of queries and one block of positions.
struct AttentionPrefillScratch {
  long long q, sums;        ///< [group][tile][D]
  long long scores;         ///< [group][tile][kScoreBlock]
  long long peak, total;    ///< [group][tile]
  long long scale;          ///< [group][tile]
  long long keys, values;   ///< a block of the cache, packed
  long long cosines, sines; ///< [rotary / 2]
  long long bytes;
};
constexpr AttentionPrefillScratch
attentionPrefillScratch(const AttentionShape &s) {
  ScratchCursor c;
  AttentionPrefillScratch r{};
  long long rows = (long long)prefillTileTokens(s) * (s.heads / s.kvHeads);
  r.q = c.floats(rows * s.headDim);
  r.sums = c.floats(rows * s.headDim);
  r.scores = c.floats(rows * kScoreBlock);
  r.peak = c.floats(rows);
  r.total = c.floats(rows);
  r.scale = c.floats(rows);
  r.keys = c.floats((long long)kScoreBlock * s.headDim);
  r.values = c.floats((long long)kScoreBlock * s.headDim);
  r.cosines = c.floats(s.rotaryDim / 2);
  r.sines = c.floats(s.rotaryDim / 2);
  r.bytes = c.bytes;
  return r;
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_SCRATCH_MIXERS_H
