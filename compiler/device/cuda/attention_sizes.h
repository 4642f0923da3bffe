//===- attention_sizes.h - launches and memory of attention -----*- C++ -*-===//
//
// Header-free: the emitter sizes launches with it, the kernels lay their
// memory out with it.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_ATTENTION_SIZES_H
#define LATHE_COMPILER_DEVICE_CUDA_ATTENTION_SIZES_H

namespace lathe {

/// What a block may use of the 99 KB that an sm_120 has.
constexpr int kAttentionShared = 96 * 1024;

struct CudaAttentionShape {
  int heads, kvHeads, headDim, rotaryDim;
  int kvBytes; ///< per cached element

  constexpr int group() const { return heads / kvHeads; }
  /// The part of a row that is multiplied at once, zero-padded: 64 bytes.
  constexpr int chunks() const { return (headDim * kvBytes + 63) / 64; }
  constexpr int chunkColumns() const { return chunks() * 64 / kvBytes; }
  /// A row of K or V in shared memory: whole groups of 32 banks.
  constexpr int rowBytes() const {
    return (headDim * kvBytes + 127) / 128 * 128;
  }
};

/// Decoding. Two stages: one over ranges of positions, for teams of threads()
/// threads; one that combines. A launch has one team per block.
struct AttentionDecodeShape {
  CudaAttentionShape heads;
  int tokens; ///< T, 1 to 8
  int blocks; ///< teams of the first stage; results do not depend on it
  int stages; ///< leaves that a team has or awaits; nor on this

  /// Positions of a leaf: a multiple of 8, and no function of T or `blocks`.
  constexpr int leaf() const { return 128 / heads.kvBytes; }
  /// Leaves of a run.
  constexpr int run() const { return 4; }

  constexpr int rows() const { return heads.group() * tokens; }
  constexpr bool half() const { return heads.kvBytes == 2; }
  /// A tile is eight query rows. With a float cache: their operand, the scores
  /// against a leaf, and how each row is rescaled. With f16, warps keep the
  /// operand in registers, each for a part of the columns, and a score has as
  /// many parts; before, the operand passes through their place.
  constexpr int parts() const { return half() ? 4 : 1; }
  constexpr int queryBytes() const {
    return half() ? 0 : 32 / heads.kvBytes * 64 * heads.chunks();
  }
  constexpr int scoreStride() const { return leaf() + 4; }
  constexpr int scoreBytes() const { return parts() * 8 * scoreStride() * 4; }
  constexpr int tileBytes() const {
    return queryBytes() + scoreBytes() + 8 * 8;
  }
  /// With f16: bytes from row to row of the queries, upper and lower parts.
  constexpr int queryStride() const { return 4 * heads.headDim + 16; }
  /// Steps of an mma in a part of the columns.
  constexpr int partSteps() const {
    return (heads.headDim / 16 + parts() - 1) / parts();
  }
  /// Rows that do not fit at once, into shared memory or into 128 registers a
  /// thread, take several passes over the cache.
  constexpr int passes() const {
    int most = !half() ? 4 : partSteps() > 2 ? 12 / partSteps() : 6;
    int fit = (kAttentionShared - stageBytes()) / tileBytes();
    most = fit < most ? fit : most;
    return (rowTiles() + most - 1) / most;
  }
  constexpr int tiles() const { return (rowTiles() + passes() - 1) / passes(); }

  constexpr int leafBytes() const { return leaf() * heads.rowBytes(); }
  constexpr int stageBytes() const { return 2 * leafBytes(); }
  constexpr int keysAt(int stage) const { return stage * stageBytes(); }
  constexpr int valuesAt(int stage) const {
    return keysAt(stage) + leafBytes();
  }
  constexpr int queriesAt() const { return stages * stageBytes(); }
  constexpr int scoresAt() const {
    return queriesAt() + tiles() * queryBytes();
  }
  constexpr int scalesAt() const { return scoresAt() + tiles() * scoreBytes(); }
  /// Of a team.
  constexpr int sharedBytes() const {
    return (scalesAt() + tiles() * 8 * 8 + 127) / 128 * 128;
  }
  constexpr int threads() const { return 256; } ///< of a team
  /// Two stages where a block has the memory: a third brought nothing.
  constexpr int stagesIn(int bytes) const {
    AttentionDecodeShape shape = *this;
    shape.stages = 2;
    return shape.sharedBytes() <= bytes ? 2 : 1;
  }

  /// A launch whose runs would leave most blocks idle hands out leaves.
  constexpr bool splitsRuns(int runs) const {
    return 2 * runs * heads.kvHeads * passes() < blocks;
  }
  /// Floats of a partial result: its sums, then peak and total.
  constexpr int partialFloats() const { return heads.headDim + 4; }
  /// Workspace, of both stages.
  constexpr long long scratchBytes(int capacity) const {
    int leaves = (capacity + leaf() - 1) / leaf();
    int runs = (leaves + run() - 1) / run();
    int split = (blocks - 1) / (2 * heads.kvHeads * passes()) * run();
    split = split < leaves ? split : leaves;
    return (long long)(runs > split ? runs : split) * heads.kvHeads * rows() *
           partialFloats() * 4;
  }

  /// The second stage: the runs of a row are dealt out to eight groups of
  /// threads, and its columns to teams.
  constexpr int groups() const { return 8; }
  constexpr int combineColumns() const {
    return heads.headDim % 64 == 0 ? 64 : heads.headDim;
  }
  constexpr int combineParts() const {
    return heads.headDim / combineColumns();
  }
  /// Of a team.
  constexpr int combineThreads() const {
    return groups() * combineColumns() / 4;
  }
  constexpr int combineSharedBytes() const {
    return groups() * (combineColumns() + 4) * 4;
  }

private:
  constexpr int rowTiles() const { return (rows() + 7) / 8; }
};

/// A prompt. Two entries: one appends to the cache, with a block per kv head
/// and eight tokens; one attends, with a block per kv head and tokensPerBlock()
/// tokens. No workspace.
struct AttentionPrefillShape {
  CudaAttentionShape heads;

  /// Query rows of a block, 16 per warp.
  constexpr int rows() const {
    int fit = 64 * 1024 / heads.rowBytes() / 16 * 16;
    return fit < 128 ? fit : 128;
  }
  /// Positions per step.
  constexpr int positions() const {
    int fit = 16 * 1024 / heads.rowBytes() / 16 * 16;
    return fit < 64 ? fit : 64;
  }
  constexpr int tokensPerBlock() const { return rows() / heads.group(); }
  constexpr int threads() const { return 2 * rows(); }

  constexpr int queryBytes() const { return rows() * heads.chunks() * 64; }
  constexpr int stepBytes() const { return positions() * heads.rowBytes(); }
  constexpr int keysAt() const { return queryBytes(); }
  constexpr int valuesAt() const { return keysAt() + stepBytes(); }
  constexpr int sharedBytes() const { return valuesAt() + stepBytes(); }

  constexpr int appendThreads() const { return 256; }
  constexpr int appendTokensPerBlock() const { return 8; }
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_ATTENTION_SIZES_H
