//===- delta_step.cuh - Gated DeltaNet for a few tokens -------*- CUDA -*-===//
//
// The recurrence of delta.cuh for up to eight tokens in sequence, with one read
// and one write of the state from memory whatever their number. Two warps have
// a slice, 16 value columns of one head, and keep its state in registers: a
// thread has four columns of a few keys. With the state before a token called
// S, one sweep yields both products that its output needs:
//
//   d = beta (v - e^g S^T k)
//   o = e^g S^T q + (k . q) d
//
// So there is one barrier per token, between the threads' partial products and
// their sums. A team, a few slices of one key head, convolves q and k for
// itself, which costs less than waiting for somebody to do it once.
//
// With replay the pending tokens go over the state first, from the ring, and
// the state is written after them and not after the new ones. All that they
// need was there before the launch, so they pass while the inputs are still
// awaited.
//
// The order of every sum follows from the shape alone, so a token's result does
// not depend on how many tokens come with it. Teams only write ring rows of
// this step's positions and only read rows of earlier ones.
//
// What prefetch() reads before the launches before this one are known to have
// finished: weights; the position; the state and the ring rows of earlier
// positions, which this layer wrote a step ago. A launch that lets its
// successor start only after its own wait, as every matvec does, vouches for
// all launches before its predecessor: they had finished when it waited, since
// each of them waited, too. One such launch between who wrote these and this
// one is enough, and every layer has some. Also, a step begins with a launch
// that overlaps nothing.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_DELTA_STEP_CUH
#define LATHE_COMPILER_DEVICE_CUDA_DELTA_STEP_CUH

#include "compiler/device/cuda/delta_step_inputs.cuh"

namespace lathe {

/// Adds x[8] over the threads of a warp that have the same columns and deals
/// the sums out: x[0 .. kLanes / 4) become those from the result on.
template <int kLanes> LATHE_DEVICE int dealSums(float (&x)[8]) {
  int first = 0, kept = 4;
#pragma unroll
  for (int mask = 16; mask >= kLanes; mask /= 2, kept /= 2) {
    bool upper = lane() & mask;
#pragma unroll
    for (int i = 0; i < kept; ++i) {
      float mine = upper ? x[i + kept] : x[i];
      float theirs = upper ? x[i] : x[i + kept];
      x[i] = mine + shuffleXor(theirs, mask);
    }
    first += upper ? kept : 0;
  }
  return first;
}

/// The stage for blocks of kThreads threads, a multiple of 32, in kTeams teams
/// of deltaStepThreads(shape): block `block` of `blocks`, all of whose threads
/// make every call, with kTeams * deltaStepTeamBytes(shape, kTokens). Uses
/// named barriers from 1 on. prefetch() may come before the inputs are
/// complete, run() after it.
template <class Cfg, int kThreads, int kTeams> class DeltaStep {
  using D = DeltaStepDims<Cfg>;
  static_assert(kTeams >= 1 && kThreads >= kTeams * D::kThreads);
  static_assert(kTeams * (1 + D::kTeam) < 16, "barriers");

public:
  LATHE_DEVICE_MEMBER DeltaStep(const LatheLaunch &ctx, const DeltaArgs &args,
                                char *shared, int block, int blocks)
      : ctx(ctx), args(args), shared(shared), warpId(warp()),
        number((int)((u32)warpId / D::kWarps)),
        // Threads beyond the last team have nothing to do.
        next(number < kTeams ? block + number * blocks : D::kTeams),
        step(kTeams * blocks) {}

  LATHE_DEVICE_MEMBER void prefetch() {
    position = ctx.step->position;
    pending = Cfg::kReplay ? ctx.step->pending : 0;
    if (next < D::kTeams)
      begin();
  }
  LATHE_DEVICE_MEMBER void run() {
    for (bool first = true; next < D::kTeams; next += step, first = false) {
      if (!first) {
        syncTeam(); // or rows change that a thread still reads
        begin();
      }
      finish();
    }
  }

  /// With replay, instead of the two: folds in what is pending, no more.
  LATHE_DEVICE_MEMBER void settle() {
    position = ctx.step->position;
    pending = ctx.step->pending;
    if (pending == 0)
      return;
    for (bool first = true; next < D::kTeams; next += step, first = false) {
      if (!first)
        syncTeam();
      begin();
      storeState();
    }
  }

private:
  const LatheLaunch &ctx;
  const DeltaArgs &args;
  char *const shared;
  const int warpId, number;
  int next; ///< team of the problem
  const int step;
  int position, pending;
  DeltaStepTeam team;
  int slice; ///< of the team
  DeltaStepInputs<Cfg> inputs;
  float s[D::kKeys][4]; ///< this thread's part of the state

  LATHE_DEVICE_MEMBER void syncTeam() const {
    if constexpr (kThreads == D::kThreads)
      syncThreads();
    else
      syncNamed(1 + number * (1 + D::kTeam), D::kThreads);
  }
  LATHE_DEVICE_MEMBER void syncSlice() const {
    syncNamed(2 + number * (1 + D::kTeam) + slice, D::kSliceWarps * 32);
  }
  LATHE_DEVICE_MEMBER int sliceWarp() const {
    return team.warp & (D::kSliceWarps - 1);
  }
  LATHE_DEVICE_MEMBER int quad() const { return lane() % D::kLanes * 4; }
  /// The thread's key p: four beside each other where there are as many.
  LATHE_DEVICE_MEMBER int key(int p) const {
    constexpr int kBeside = D::kKeys % 4 == 0 ? 4 : 1;
    const int group = sliceWarp() * (32 / D::kLanes) + lane() / D::kLanes;
    return (p / kBeside * D::kKeyGroups + group) * kBeside + p % kBeside;
  }

  LATHE_DEVICE_MEMBER void begin() {
    team = deltaStepTeamOf<D>(
        next, threadX() - number * D::kThreads, warpId - number * D::kWarps,
        shared + number * deltaStepTeamBytes(D::shape(), D::kTokens));
    slice = team.warp / D::kSliceWarps;
    visitState([](float (&x)[4], const float *plain) {
      Float4 v = loadFresh((const Float4 *)plain);
      x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
    });
    inputs.loadPast(args, team, position);
    if constexpr (Cfg::kReplay)
      if (pending > 0)
        fold();
  }

  /// Nobody takes back a single token: it goes over the state for good.
  static constexpr bool kSettles = !Cfg::kReplay || Cfg::kTokens == 1;

  /// Takes the state over the pending tokens, for good.
  LATHE_DEVICE_MEMBER void fold() {
    inputs.convolvePending(args, team, position, pending);
    syncTeam();
    makeNorms(pending);
#pragma unroll 1
    for (int t = 0; t < pending; ++t)
      advance<false>(t);
    if constexpr (!kSettles)
      storeState();
    syncTeam(); // the rows are free
  }

  LATHE_DEVICE_MEMBER void finish() {
    inputs.load(args, team);
    inputs.convolveRows(team);
    syncTeam();
    makeNorms(D::kTokens);
    inputs.keep(args, team, position);
    if constexpr (Cfg::kReplay)
      inputs.keepGates(args, team, position);
    // More code than that of four takes longer to fetch than it saves.
#pragma unroll(D::kTokens > 4 ? 1 : D::kTokens)
    for (int t = 0; t < D::kTokens; ++t)
      advance<true>(t);
    // Else these tokens are pending, and the next step folds them in.
    if constexpr (kSettles)
      storeState();
  }

  LATHE_DEVICE_MEMBER void makeNorms(int tokens) {
    for (int t = team.warp; t < tokens; t += D::kWarps)
      team.norms[t] = stepNorms<Cfg>(team.rows + t * D::kWidth);
  }

  LATHE_DEVICE_MEMBER void storeState() {
    visitState([](const float (&x)[4], float *plain) {
      *(Float4 *)plain = {x[0], x[1], x[2], x[3]};
    });
  }

  /// Calls visit(part of s, where it is in the plain state) for the four
  /// columns of each of this thread's keys.
  template <class Visit> LATHE_DEVICE_MEMBER void visitState(Visit visit) {
    const int own = team.firstSlice + slice;
    float *first = args.state +
                   (own / D::kSlicesPerHead * D::kK + key(0)) * D::kV +
                   own % D::kSlicesPerHead * D::kColumns + quad();
#pragma unroll
    for (int p = 0; p < D::kKeys; ++p)
      visit(s[p], first + (key(p) - key(0)) * D::kV);
  }

  /// Leaves the warp's part of S^T k and, if the token is new, of S^T q in
  /// `partials`; k becomes that of the thread's keys.
  template <bool kNew>
  LATHE_DEVICE_MEMBER void products(const float *row, float *partials,
                                    float (&k)[D::kKeys]) const {
    float q[D::kKeys], x[8] = {};
    if constexpr (kNew)
      keysOf(row, q);
    keysOf(row + D::kK, k);
#pragma unroll
    for (int p = 0; p < D::kKeys; ++p)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        x[j] = fma(k[p], s[p][j], x[j]);
        if constexpr (kNew)
          x[4 + j] = fma(q[p], s[p][j], x[4 + j]);
      }
    int first = dealSums<D::kLanes>(x);
    partials += sliceWarp() * 2 * D::kColumns;
#pragma unroll
    for (int i = 0; i < D::kLanes / 4; ++i)
      partials[(first + i) / 4 * D::kColumns + quad() + (first + i) % 4] = x[i];
  }
  LATHE_DEVICE_MEMBER void keysOf(const float *row,
                                  float (&x)[D::kKeys]) const {
#pragma unroll
    for (int p = 0; p < D::kKeys; ++p)
      if constexpr (D::kKeys % 4 != 0) {
        x[p] = row[key(p)];
      } else if (p % 4 == 0) {
        Float4 v = *(const Float4 *)(row + key(p));
        x[p] = v.x, x[p + 1] = v.y, x[p + 2] = v.z, x[p + 3] = v.w;
      }
  }

  /// The sums over the slice's warps for this thread's four columns.
  LATHE_DEVICE_MEMBER void totals(const float *partials,
                                  float (&sum)[4]) const {
#pragma unroll
    for (int w = 0; w < D::kSliceWarps; ++w) {
      Float4 x = *(const Float4 *)(partials + w * 2 * D::kColumns + quad());
      sum[0] = w == 0 ? x.x : sum[0] + x.x;
      sum[1] = w == 0 ? x.y : sum[1] + x.y;
      sum[2] = w == 0 ? x.z : sum[2] + x.z;
      sum[3] = w == 0 ? x.w : sum[3] + x.w;
    }
  }

  /// Takes the state over one token and, if it is new, writes its output.
  template <bool kNew> LATHE_DEVICE_MEMBER void advance(int t) {
    const float *row = team.rows + t * D::kWidth;
    // The other buffer may still be read by threads that are one token behind.
    float *partials = team.partials + (t % 2 * D::kTeam + slice) *
                                          D::kSliceWarps * 2 * D::kColumns;
    float k[D::kKeys], d[4];
    products<kNew>(row, partials, k);
    const DeltaGates gates = team.gates[t * D::kTeam + slice];
    const Float4 values =
        *(const Float4 *)(row + 2 * D::kK + slice * D::kColumns + quad());
    const float v[4] = {values.x, values.y, values.z, values.w};
    // Norms come from the whole team, all with the first barrier.
    DeltaNorms norms;
    if (t > 0) {
      norms = team.norms[t];
      syncSlice();
    } else {
      syncTeam();
      norms = team.norms[0];
    }
    const float fromKey = -(gates.decay * norms.key);
    totals(partials, d);
#pragma unroll
    for (int j = 0; j < 4; ++j)
      d[j] = gates.beta * fma(fromKey, d[j], v[j]);
#pragma unroll
    for (int p = 0; p < D::kKeys; ++p)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        s[p][j] = fma(k[p], norms.key * d[j], gates.decay * s[p][j]);
    // Warps take turns.
    if (kNew && sliceWarp() == t % D::kSliceWarps && lane() < D::kLanes) {
      float o[4];
      totals(partials + D::kColumns, o);
      const float query = gates.decay * norms.query;
      *(Float4 *)(args.out + t * D::kOutStride +
                  (team.firstSlice + slice) * D::kColumns +
                  quad()) = {fma(query, o[0], norms.dot * d[0]),
                             fma(query, o[1], norms.dot * d[1]),
                             fma(query, o[2], norms.dot * d[2]),
                             fma(query, o[3], norms.dot * d[3])};
    }
  }
};

/// Folds in the pending tokens: what a prompt begins with. Launch as deltaStep
/// for one token.
template <class Cfg>
LATHE_DEVICE void
deltaSettle(const LatheLaunch &ctx, const float *qkv, const float *a,
            const float *b, const float *convWeight, const float *aLog,
            const float *dtBias, float *convState, float *state, float *out) {
  waitForPrevious();
  launchNext();
  const DeltaArgs args{qkv,    a,         b,     convWeight, aLog,
                       dtBias, convState, state, out};
  DeltaStep<Cfg, DeltaStepDims<Cfg>::kThreads, 1> stage(
      ctx, args, sharedMemory(), blockX(), gridX());
  stage.settle();
}

/// Conv, norms, gates and the delta rule for Cfg::kTokens tokens. Launch
/// deltaStepBlocks(shape) blocks of deltaStepThreads(shape) threads with
/// deltaStepShared(shape, kTokens) bytes.
template <class Cfg>
LATHE_DEVICE void
deltaStep(const LatheLaunch &ctx, const float *qkv, const float *a,
          const float *b, const float *convWeight, const float *aLog,
          const float *dtBias, float *convState, float *state, float *out) {
  const DeltaArgs args{qkv,    a,         b,     convWeight, aLog,
                       dtBias, convState, state, out};
  DeltaStep<Cfg, DeltaStepDims<Cfg>::kThreads, 1> stage(
      ctx, args, sharedMemory(), blockX(), gridX());
  stage.prefetch();
  waitForPrevious();
  launchNext();
  stage.run();
}

/// A stage of the persistent step.
template <class Cfg, class Step>
LATHE_DEVICE void deltaStepStage(Step &step, const LatheLaunch &ctx,
                                 const DeltaArgs &args) {
  constexpr int kTeams =
      deltaStepTeamsIn(DeltaStepDims<Cfg>::shape(), Step::kThreads);
  step.other([&](char *shared, int block) {
    DeltaStep<Cfg, Step::kThreads, kTeams> stage(ctx, args, shared, block,
                                                 Step::kGrid);
    stage.prefetch();
    stage.run();
  });
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_DELTA_STEP_CUH
