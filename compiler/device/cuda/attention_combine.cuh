//===- attention_combine.cuh - how parts of a softmax add up ---*- CUDA -*-===//
//
// How the ranges of a decode step are divided into partial results, and the
// second stage, which makes a row's result of them. See attention_decode.cuh.
//
// Threads: eight groups, a thread per four columns. Run r of a row belongs to
// group r % 8, whatever the launch; a group folds its runs in order, and then
// the first group adds the groups up.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_ATTENTION_COMBINE_CUH
#define LATHE_COMPILER_DEVICE_CUDA_ATTENTION_COMBINE_CUH

#include "compiler/device/cuda/attention.cuh"

namespace lathe {

/// How a launch is divided into units, each with a partial result: runs, or
/// leaves where there are few runs. The same in both stages.
template <class Cfg> struct DecodePlan {
  using A = AttentionDims<Cfg>;
  static constexpr AttentionDecodeShape kShape{A::kShape, Cfg::kTokens,
                                               Cfg::kBlocks, Cfg::kStages};
  int leaves;  ///< that a kv head has
  int units;   ///< that a kv head has
  bool splits; ///< units are leaves

  LATHE_DEVICE_MEMBER explicit DecodePlan(int position) {
    leaves = ceilDiv(position + Cfg::kTokens, kShape.leaf());
    int runs = ceilDiv(leaves, kShape.run());
    splits = kShape.splitsRuns(runs);
    units = splits ? leaves : runs;
  }
  LATHE_DEVICE_MEMBER int firstLeaf(int unit) const {
    return splits ? unit : unit * kShape.run();
  }
  LATHE_DEVICE_MEMBER int unitOf(int leaf) const {
    return splits ? leaf : leaf / kShape.run();
  }
  LATHE_DEVICE_MEMBER bool endsUnit(int leaf) const {
    return splits || leaf + 1 == leaves || (leaf + 1) % kShape.run() == 0;
  }
  static LATHE_DEVICE_MEMBER float *partial(const LatheLaunch &ctx, int unit,
                                            int kvHead, int row) {
    return (float *)ctx.scratch +
           (((i64)unit * Cfg::kKvHeads + kvHead) * kShape.rows() + row) *
               kShape.partialFloats();
  }
};

/// Sums relative to a peak, an exponent of 2, meet others: both are brought to
/// the higher peak.
struct alignas(8) Fold {
  float before, added;
};
LATHE_DEVICE Fold foldPeak(float &peak, float other) {
  float higher = maximum(peak, other);
  Fold f{exp2(peak - higher), exp2(other - higher)};
  peak = higher;
  return f;
}
LATHE_DEVICE float folded(float sum, float other, Fold f) {
  return fma(sum, f.before, other * f.added);
}

/// Four columns of a partial result.
struct Partial {
  Float4 sums{0.0f, 0.0f, 0.0f, 0.0f};
  float peak = kNoScore, total = 0.0f;

  LATHE_DEVICE_MEMBER void load(const float *from, int column, int width) {
    sums = *(const Float4 *)(from + column);
    Float2 last = *(const Float2 *)(from + width);
    peak = last.x, total = last.y;
  }
  /// The same from the scratch, where other blocks have just written it.
  LATHE_DEVICE_MEMBER void fetch(const float *from, int column, int width) {
    sums = loadFresh((const Float4 *)(from + column));
    Float2 last = loadFresh((const Float2 *)(from + width));
    peak = last.x, total = last.y;
  }
  LATHE_DEVICE_MEMBER void store(float *to, int column, int width) const {
    *(Float4 *)(to + column) = sums;
    *(Float2 *)(to + width) = {peak, total};
  }
  LATHE_DEVICE_MEMBER void add(const Partial &p) {
    Fold f = foldPeak(peak, p.peak);
    total = folded(total, p.total, f);
    sums = {folded(sums.x, p.sums.x, f), folded(sums.y, p.sums.y, f),
            folded(sums.z, p.sums.z, f), folded(sums.w, p.sums.w, f)};
  }
};

/// The second stage: rows in parts of their columns, a team of
/// kShape.combineThreads() threads for each. A block of kThreads threads has as
/// many teams as fit; block `block` of `blocks`, all of whose threads call
/// run(), with kTeams * kShape.combineSharedBytes().
template <class Cfg, int kThreads> class DecodeCombine {
  using Plan = DecodePlan<Cfg>;
  static constexpr AttentionDecodeShape kShape = Plan::kShape;
  static constexpr int kD = Cfg::kHeadDim, kColumns = kShape.combineColumns();
  static constexpr int kVectors = kColumns / 4, kParts = kD / kColumns;
  static constexpr int kGroups = kShape.groups(), kRun = kShape.run();
  static constexpr int kFloats = kColumns + 4;
  static constexpr int kTeamThreads = kShape.combineThreads();
  static constexpr int kItems = Cfg::kHeads * Cfg::kTokens * kParts;
  static constexpr int kAtOnce = 8; ///< loads

public:
  static constexpr int kTeams = kThreads / kTeamThreads;
  static_assert(kTeams > 0);

private:
  const LatheLaunch &ctx;
  float *shared;
  const int position, team, group, column;
  int head, token, part;

public:
  LATHE_DEVICE_MEMBER DecodeCombine(const LatheLaunch &ctx, char *shared)
      : ctx(ctx), shared((float *)shared), position(ctx.step->position),
        team(threadX() / kTeamThreads),
        group(threadX() % kTeamThreads / kVectors),
        column(threadX() % kVectors * 4) {
    this->shared += team * kGroups * kFloats;
  }

  LATHE_DEVICE_MEMBER void run(float *out, int block, int blocks) {
    const Plan plan(position);
    for (int first = block * kTeams; first < kItems; first += blocks * kTeams) {
      const int item = first + team;
      const bool exists = team < kTeams && item < kItems;
      part = item % kParts;
      head = item / kParts % Cfg::kHeads;
      token = item / kParts / Cfg::kHeads;
      if (exists)
        addOwn(plan).store(shared + group * kFloats, column, kColumns);
      syncThreads();
      if (exists && group == 0)
        finish(out + token * Cfg::kOutStride + head * kD + part * kColumns +
               column);
      syncThreads();
    }
  }

private:
  /// The runs of this thread's group.
  LATHE_DEVICE_MEMBER Partial addOwn(const Plan &plan) const {
    const int leaves = (position + token) / kShape.leaf() + 1;
    const int runs = ceilDiv(leaves, kRun);
    constexpr int kRuns = kAtOnce / kRun;
    Partial all;
    if (plan.splits)
      for (int run = group; run < runs; run += kRuns * kGroups) {
        Partial parts[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i)
          load(parts[i], (run + i / kRun * kGroups) * kRun + i % kRun, leaves);
#pragma unroll
        for (int r = 0; r < kRuns; ++r) {
          Partial whole;
#pragma unroll
          for (int i = 0; i < kRun; ++i)
            whole.add(parts[r * kRun + i]);
          all.add(whole);
        }
      }
    else
      for (int run = group; run < runs; run += kAtOnce * kGroups) {
        Partial parts[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i)
          load(parts[i], run + i * kGroups, runs);
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i)
          all.add(parts[i]);
      }
    return all;
  }
  LATHE_DEVICE_MEMBER void load(Partial &to, int unit, int end) const {
    constexpr int kGroup = Cfg::kHeads / Cfg::kKvHeads;
    if (unit < end)
      to.fetch(Plan::partial(ctx, unit, head / kGroup,
                             token * kGroup + head % kGroup),
               part * kColumns + column, kD);
  }
  /// All groups at once: the highest peak first, then the sums in order.
  LATHE_DEVICE_MEMBER void finish(float *out) const {
    Partial own[kGroups], all;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      own[g].load(shared + g * kFloats, column, kColumns);
      all.peak = maximum(all.peak, own[g].peak);
    }
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const float scale = exp2(own[g].peak - all.peak);
      all.total = fma(own[g].total, scale, all.total);
      all.sums = {fma(own[g].sums.x, scale, all.sums.x),
                  fma(own[g].sums.y, scale, all.sums.y),
                  fma(own[g].sums.z, scale, all.sums.z),
                  fma(own[g].sums.w, scale, all.sums.w)};
    }
    *(Float4 *)out = {all.sums.x / all.total, all.sums.y / all.total,
                      all.sums.z / all.total, all.sums.w / all.total};
  }
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_ATTENTION_COMBINE_CUH
