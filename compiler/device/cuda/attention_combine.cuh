//===- attention_combine.cuh - how parts of a softmax add up ---*- CUDA -*-===//
//
// How a decode launch is divided into partial results, and its second entry,
// which makes a row's result of them. See attention_decode.cuh.
//
// Threads: eight teams, a thread per four columns. Run r of a row belongs to
// team r % 8, whatever the launch; a team folds its runs in order, and then
// the first team folds the teams.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_ATTENTION_COMBINE_CUH
#define LATHE_COMPILER_DEVICE_CUDA_ATTENTION_COMBINE_CUH

#include "compiler/device/cuda/attention.cuh"

namespace lathe {

/// How a launch is divided into units, each with a partial result: runs, or
/// leaves where there are few runs. The same in both entries.
template <class Cfg> struct DecodePlan {
  using A = AttentionDims<Cfg>;
  static constexpr AttentionDecodeShape kShape{A::kShape, Cfg::kTokens,
                                               Cfg::kBlocks};
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

/// Sums relative to a peak meet others: both are brought to the higher peak.
struct alignas(8) Fold {
  float before, added;
};
LATHE_DEVICE Fold foldPeak(float &peak, float other) {
  float higher = maximum(peak, other);
  Fold f{exp(peak - higher), exp(other - higher)};
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

template <class Cfg> class DecodeCombine {
  using Plan = DecodePlan<Cfg>;
  static constexpr AttentionDecodeShape kShape = Plan::kShape;
  static constexpr int kD = Cfg::kHeadDim, kVectors = kD / 4;
  static constexpr int kTeams = kShape.teams(), kRun = kShape.run();

  const LatheLaunch &ctx;
  const int head, token, team, column;

public:
  LATHE_DEVICE_MEMBER explicit DecodeCombine(const LatheLaunch &ctx)
      : ctx(ctx), head(blockX()), token(blockY()), team(threadX() / kVectors),
        column(threadX() % kVectors * 4) {}

  LATHE_DEVICE_MEMBER void run(float *out) {
    const int position = ctx.step->position;
    const Plan plan(position);
    const int leaves = (position + token) / kShape.leaf() + 1;
    const int runs = ceilDiv(leaves, kRun);
    Partial all;
    // Either way four partial results are loaded at once.
    if (plan.splits)
      for (int run = team; run < runs; run += kTeams) {
        Partial whole;
        addUnits(whole, run * kRun, 1, leaves);
        all.add(whole);
      }
    else
      for (int run = team; run < runs; run += 4 * kTeams)
        addUnits(all, run, kTeams, runs);
    float *shared = (float *)sharedMemory();
    all.store(shared + team * kShape.partialFloats(), column, kD);
    syncThreads();
    if (team != 0)
      return;
    for (int t = 1; t < kTeams; ++t) {
      Partial other;
      other.load(shared + t * kShape.partialFloats(), column, kD);
      all.add(other);
    }
    *(Float4 *)(out + token * Cfg::kOutStride + head * kD +
                column) = {all.sums.x / all.total, all.sums.y / all.total,
                           all.sums.z / all.total, all.sums.w / all.total};
  }

private:
  /// Adds units first, first + step, ... below `end`, at most four.
  LATHE_DEVICE_MEMBER void addUnits(Partial &to, int first, int step,
                                    int end) const {
    constexpr int kGroup = Cfg::kHeads / Cfg::kKvHeads;
    static_assert(kRun == 4);
    Partial parts[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (first + i * step < end)
        parts[i].load(Plan::partial(ctx, first + i * step, head / kGroup,
                                    token * kGroup + head % kGroup),
                      column, kD);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      to.add(parts[i]);
  }
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_ATTENTION_COMBINE_CUH
