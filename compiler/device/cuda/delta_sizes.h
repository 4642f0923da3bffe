//===- delta_sizes.h - launches and memory of Gated DeltaNet ----*- C++ -*-===//
//
// Header-free: the emitter sizes launches with it, the kernels lay their
// memory out with it. All sizes are bytes.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_DELTA_SIZES_H
#define LATHE_COMPILER_DEVICE_CUDA_DELTA_SIZES_H

#include "runtime/base/Replay.h"

namespace lathe {

struct CudaDeltaShape {
  int keyHeads, valueHeads, keyDim, valueDim, taps;
  bool replay = false; ///< steps fold in the pending tokens of the one before

  constexpr int ratio() const { return valueHeads / keyHeads; }
  constexpr int channels() const {
    return 2 * keyHeads * keyDim + valueHeads * valueDim;
  }
};

/// Shared memory that a block may have on every GPU; SM_120 has 99 KB.
constexpr int kDeltaSharedLimit = 96 * 1024;

//===----------------------------------------------------------------------===//
// deltaStep: two warps have a slice, that is some value columns of one head. A
// team has a few slices of one key head. A launch has one team per block.
//===----------------------------------------------------------------------===//

/// Value columns of a slice: two 32-byte sectors of every row.
constexpr int kDeltaStepColumns = 16;
constexpr int kDeltaStepWarps = 2; ///< of a slice
constexpr int deltaStepSlices(const CudaDeltaShape &s) {
  return s.valueHeads * (s.valueDim / kDeltaStepColumns);
}
/// Slices of a team, which convolve q and k together. The 27B has 384 slices in
/// 128 teams of three, one for almost every SM of a large GPU.
constexpr int deltaStepTeam(const CudaDeltaShape &s) {
  const int ofKeyHead = s.ratio() * (s.valueDim / kDeltaStepColumns);
  return ofKeyHead % 3 == 0 ? 3 : ofKeyHead % 2 == 0 ? 2 : 1;
}
constexpr int deltaStepTeams(const CudaDeltaShape &s) {
  return deltaStepSlices(s) / deltaStepTeam(s);
}
/// Of a team.
constexpr int deltaStepThreads(const CudaDeltaShape &s) {
  return deltaStepTeam(s) * kDeltaStepWarps * 32;
}
/// Floats per token: q, k and the team's v.
constexpr int deltaStepWidth(const CudaDeltaShape &s) {
  return 2 * s.keyDim + deltaStepTeam(s) * kDeltaStepColumns;
}
/// Tokens that a team holds at a time: the step's, and before them, with
/// replay, the pending ones.
constexpr int deltaStepRows(const CudaDeltaShape &s, int tokens) {
  return s.replay ? LATHE_REPLAY_TOKENS : tokens;
}
/// Of a team: per token a row, its norms and every slice's gates; then two
/// buffers of the warps' partial sums.
constexpr int deltaStepTeamBytes(const CudaDeltaShape &s, int tokens) {
  return (deltaStepRows(s, tokens) *
              (deltaStepWidth(s) + 4 + 4 * deltaStepTeam(s)) +
          2 * deltaStepTeam(s) * kDeltaStepWarps * 2 * kDeltaStepColumns) *
         4;
}
/// Teams that a block of so many threads has room for, named barriers included.
constexpr int deltaStepTeamsIn(const CudaDeltaShape &s, int threads) {
  const int fit = threads / deltaStepThreads(s);
  const int barriers = 15 / (1 + deltaStepTeam(s));
  return fit < barriers ? fit : barriers;
}
constexpr int deltaStepBlocks(const CudaDeltaShape &s) {
  return deltaStepTeams(s);
}
constexpr int deltaStepShared(const CudaDeltaShape &s, int tokens) {
  return deltaStepTeamBytes(s, tokens);
}
/// The same where all blocks could have an SM of their own: so much that no
/// more than two fit on one, whose blocks may have `most` bytes. Blocks go
/// where there is room first, which is where the launch before ended first, and
/// up to four on one SM take as long as one after the other.
constexpr int deltaStepSharedSpread(const CudaDeltaShape &s, int tokens,
                                    int most) {
  const int third = (most / 3 + 127) / 128 * 128;
  const int needed = deltaStepShared(s, tokens);
  return needed < third ? third : needed;
}
/// Blocks per SM that bound the registers: one may start while another ends.
/// Registers are wanted by tokens whose code is unrolled, up to four, and by
/// what is folded in.
constexpr int deltaStepResident(const CudaDeltaShape &s, int tokens) {
  if (s.replay)
    return tokens > 3 ? 2 : 3;
  return tokens > 4 ? 4 : 3;
}

//===----------------------------------------------------------------------===//
// Prefill: deltaPrepare fills the scratch, deltaScan runs over it.
//===----------------------------------------------------------------------===//

/// Tokens per chunk. The work per token falls with the chunk up to about 32
/// (the products with the state do not depend on it, those inside a chunk grow
/// with it), and two chunks of 32 fit into SM_120's shared memory.
constexpr int kDeltaChunk = 32;
constexpr int kDeltaPrepareThreads = 256;
/// Blocks per SM to ask for: three are quicker, but long convolutions need
/// the registers of two.
constexpr int deltaPrepareResident(const CudaDeltaShape &s) {
  return s.taps > 4 ? 2 : 3;
}

constexpr int deltaChunks(int tokens) {
  return (tokens + kDeltaChunk - 1) / kDeltaChunk;
}

/// A row of numbers that are each the sum of two halves: first the upper
/// halves, then the lower ones. 16 more bytes make the row an odd number of
/// 16-byte units, so that ldmatrix has no bank conflicts.
constexpr int deltaRowBytes(int width) { return 4 * width + 16; }

/// A chunk of a key head: k, then q.
constexpr int deltaKeyBytes(const CudaDeltaShape &s) {
  return 2 * kDeltaChunk * deltaRowBytes(s.keyDim);
}
/// A chunk of a value head: the matrices M and P, then e^G and e^{G_n - G}.
constexpr int kDeltaMatrixBytes = kDeltaChunk * deltaRowBytes(kDeltaChunk);
constexpr int kDeltaHeadBytes = 2 * kDeltaMatrixBytes + 2 * kDeltaChunk * 4;
/// A chunk of a value head's v.
constexpr int deltaValueBytes(const CudaDeltaShape &s) {
  return kDeltaChunk * s.valueDim * 4;
}
/// A chunk of a value head's largest |v|, two per 16 columns.
constexpr int deltaPeakBytes(const CudaDeltaShape &s) {
  return s.valueDim / 16 * 2 * 4;
}

/// Where these lie in a chunk's part of the scratch.
struct CudaDeltaScratch {
  long long keys, heads, values, peaks, bytes;
};
constexpr CudaDeltaScratch deltaChunkScratch(const CudaDeltaShape &s) {
  CudaDeltaScratch r{};
  r.heads = (long long)s.keyHeads * deltaKeyBytes(s);
  r.values = r.heads + (long long)s.valueHeads * kDeltaHeadBytes;
  r.peaks = r.values + (long long)s.valueHeads * deltaValueBytes(s);
  r.bytes = r.peaks + (long long)s.valueHeads * deltaPeakBytes(s);
  r.bytes = (r.bytes + 255) / 256 * 256;
  return r;
}
/// LatheLaunch::scratch of a prefill of up to `maxTokens`.
constexpr long long deltaScratch(const CudaDeltaShape &s, int maxTokens) {
  return deltaChunks(maxTokens) * deltaChunkScratch(s).bytes;
}

constexpr int deltaPrepareBlocks(const CudaDeltaShape &s, int maxTokens) {
  return deltaChunks(maxTokens) * (s.keyHeads + s.valueHeads);
}
/// Floats per row of the products between tokens; 40 spreads the rows of an
/// mma tile over all banks.
constexpr int kDeltaDotStride = 40;
/// Floats per row of L, whole 16-byte units.
constexpr int kDeltaLowerStride = 36;
constexpr int kDeltaLowerBytes = kDeltaChunk * kDeltaLowerStride * 4;
/// Value heads whose matrices a deltaPrepare block makes at a time.
constexpr int deltaSolvers(const CudaDeltaShape &s) {
  return s.ratio() < kDeltaPrepareThreads / 32 ? s.ratio()
                                               : kDeltaPrepareThreads / 32;
}
/// k and q, later L in the same place.
constexpr int deltaPrepareRows(const CudaDeltaShape &s) {
  int solve = deltaSolvers(s) * kDeltaLowerBytes;
  return deltaKeyBytes(s) > solve ? deltaKeyBytes(s) : solve;
}
constexpr int deltaPrepareShared(const CudaDeltaShape &s) {
  return deltaPrepareRows(s) + 2 * kDeltaChunk * kDeltaDotStride * 4;
}

/// Warps that share a tile of 16 value columns: a warp's registers hold the
/// state of 128 keys.
constexpr int deltaScanParts(const CudaDeltaShape &s) {
  return s.keyDim > 128 ? 2 : 1;
}
/// Value columns of a deltaScan block, for up to four warps: one for each
/// scheduler of an SM.
constexpr int deltaScanColumns(const CudaDeltaShape &s) {
  int tiles = 4 / deltaScanParts(s);
  while (s.valueDim / 16 % tiles != 0)
    --tiles;
  return tiles * 16;
}
constexpr int deltaScanThreads(const CudaDeltaShape &s) {
  return deltaScanColumns(s) / 16 * deltaScanParts(s) * 32;
}
constexpr int deltaScanBlocks(const CudaDeltaShape &s) {
  return s.valueHeads * (s.valueDim / deltaScanColumns(s));
}
constexpr int deltaStageBytes(const CudaDeltaShape &s) {
  return deltaKeyBytes(s) + kDeltaHeadBytes;
}
/// Two accumulators [16][32] per warp, if parts must be added up.
constexpr int deltaExchangeBytes(const CudaDeltaShape &s) {
  return deltaScanParts(s) > 1 ? deltaScanThreads(s) * 2 * 16 * 4 : 0;
}
constexpr int deltaScanShared(const CudaDeltaShape &s, int stages) {
  return stages * (deltaStageBytes(s) + 8) + deltaExchangeBytes(s);
}
/// Chunks in flight.
constexpr int deltaScanStages(const CudaDeltaShape &s) {
  return deltaScanShared(s, 2) <= kDeltaSharedLimit ? 2 : 1;
}
constexpr int deltaScanShared(const CudaDeltaShape &s) {
  return deltaScanShared(s, deltaScanStages(s));
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_DELTA_SIZES_H
