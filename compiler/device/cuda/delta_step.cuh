//===- delta_step.cuh - Gated DeltaNet for a few tokens -------*- CUDA -*-===//
//
// The recurrence of delta.cuh for up to eight tokens in sequence, with one read
// and one write of the state from memory whatever their number. A team of
// threads has a slice, 16 value columns of one head, and keeps its state in
// registers: a thread has four columns of a few keys. With the state before a
// token called S, one sweep yields both products that its output needs:
//
//   d = beta (v - e^g S^T k)
//   o = e^g S^T q + (k . q) d
//
// So there is one barrier per token, between the threads' partial products and
// their sums. Every team convolves q and k of its key head for itself, which
// costs less than waiting for somebody to do it once.
//
// The order of every sum follows from the shape alone, so a token's result does
// not depend on how many tokens come with it. Teams only write ring rows of
// this step's positions and only read rows of earlier ones.
//
// What prefetch() reads before the launches before this one are known to have
// finished: weights; the position; the state and the ring rows of earlier
// positions, which this layer wrote a step ago. A step begins with a launch
// that overlaps nothing, so all of the step before is complete by then; and
// within one, no launch before this layer's own writes them, and the position
// changes after the last layer. Both hold without graphs, too: every matvec
// lets its successor start only after its own wait, when all launches before
// its predecessor are complete.
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

/// The stage for blocks of kThreads threads, whose teams share out the slices:
/// block `block` of `blocks`, all of whose threads make every call, with
/// deltaStepShared(shape, kTokens, kThreads) bytes. prefetch() may come before
/// the inputs are complete, run() after it.
template <class Cfg, int kThreads = kDeltaStepThreads> class DeltaStep {
  using D = DeltaStepDims<Cfg>;
  static constexpr int kTeams = kThreads / D::kThreads;
  static_assert(kTeams >= 1 && kThreads % 32 == 0);

public:
  LATHE_DEVICE_MEMBER DeltaStep(const LatheLaunch &ctx, const DeltaArgs &args,
                                char *shared, int block, int blocks)
      : ctx(ctx), args(args), shared(shared), warpId(warp()),
        team(warpId / D::kWarps),
        // Teams beyond the last whole one have nothing.
        next(team < kTeams ? block + team * blocks : D::kSlices),
        step(kTeams * blocks) {}

  LATHE_DEVICE_MEMBER void prefetch() {
    position = ctx.step->position;
    if (next < D::kSlices)
      begin();
  }
  LATHE_DEVICE_MEMBER void run() {
    for (bool first = true; next < D::kSlices; next += step, first = false) {
      if (!first) {
        syncTeam(); // or rows change that a thread still reads
        begin();
      }
      finish();
    }
  }

private:
  const LatheLaunch &ctx;
  const DeltaArgs &args;
  char *const shared;
  const int warpId, team;
  int next; ///< slice
  const int step;
  int position;
  DeltaStepSlice slice;
  DeltaStepInputs<Cfg> inputs;
  float s[D::kKeys][4]; ///< this thread's part of the state

  LATHE_DEVICE_MEMBER void syncTeam() const {
    if constexpr (kTeams == 1 && kThreads == D::kThreads)
      syncThreads();
    else
      syncNamed(1 + team, D::kThreads);
  }
  LATHE_DEVICE_MEMBER int quad() const { return slice.thread % D::kLanes * 4; }
  LATHE_DEVICE_MEMBER int firstKey() const {
    return slice.thread / D::kLanes * D::kKeys;
  }

  LATHE_DEVICE_MEMBER void begin() {
    slice = deltaStepSlice<D>(
        next, threadX() - team * D::kThreads, warpId - team * D::kWarps,
        shared + team * deltaStepTeamBytes(D::shape(), D::kTokens));
    visitState([](float (&x)[4], const float *plain) {
      Float4 v = loadFresh((const Float4 *)plain);
      x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
    });
    inputs.loadPast(args, slice, position);
  }

  LATHE_DEVICE_MEMBER void finish() {
    inputs.load(args, slice, position);
    inputs.convolveRows(slice);
    syncTeam();
#pragma unroll
    for (int t = 0; t < D::kTokens; t += D::kWarps)
      if (t + slice.warp < D::kTokens)
        stepFactors<Cfg>(slice.rows + (t + slice.warp) * D::kWidth,
                         slice.factors[t + slice.warp]);
    inputs.keep(args, slice, position);
#pragma unroll 1
    for (int t = 0; t < D::kTokens; ++t)
      advance(t);
    visitState([](const float (&x)[4], float *plain) {
      *(Float4 *)plain = {x[0], x[1], x[2], x[3]};
    });
  }

  /// Calls visit(part of s, where it is in the plain state) for the four
  /// columns of each of this thread's keys.
  template <class Visit> LATHE_DEVICE_MEMBER void visitState(Visit visit) {
    float *first = args.state + (i64)(slice.head * D::kK + firstKey()) * D::kV +
                   slice.column + quad();
#pragma unroll
    for (int p = 0; p < D::kKeys; ++p)
      if (hasKey(p))
        visit(s[p], first + p * D::kV);
  }
  LATHE_DEVICE_MEMBER bool hasKey(int p) const {
    constexpr int kGroups = D::kThreads / D::kLanes;
    return D::kK % kGroups == 0 || firstKey() + p < D::kK;
  }

  /// Leaves the warp's part of S^T k and S^T q in `partials`; k becomes that of
  /// the thread's keys.
  LATHE_DEVICE_MEMBER void products(const float *row, float *partials,
                                    float (&k)[D::kKeys]) const {
    float q[D::kKeys], x[8] = {};
    keysOf(row, q);
    keysOf(row + D::kK, k);
#pragma unroll
    for (int p = 0; p < D::kKeys; ++p)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        x[j] = fma(k[p], s[p][j], x[j]);
        x[4 + j] = fma(q[p], s[p][j], x[4 + j]);
      }
    int first = dealSums<D::kLanes>(x);
#pragma unroll
    for (int i = 0; i < D::kLanes / 4; ++i)
      partials[(slice.warp * 2 + (first + i) / 4) * D::kColumns + quad() +
               (first + i) % 4] = x[i];
  }
  LATHE_DEVICE_MEMBER void keysOf(const float *row,
                                  float (&x)[D::kKeys]) const {
    if constexpr (D::kKeys == 4) {
      Float4 v = *(const Float4 *)(row + firstKey());
      x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
    } else {
#pragma unroll
      for (int p = 0; p < D::kKeys; ++p)
        x[p] = hasKey(p) ? row[firstKey() + p] : 0.0f;
    }
  }

  /// The sums over all warps for this thread's four columns.
  LATHE_DEVICE_MEMBER void totals(const float *partials,
                                  float (&sum)[4]) const {
#pragma unroll
    for (int w = 0; w < D::kWarps; ++w) {
      Float4 x = *(const Float4 *)(partials + w * 2 * D::kColumns + quad());
      sum[0] = w == 0 ? x.x : sum[0] + x.x;
      sum[1] = w == 0 ? x.y : sum[1] + x.y;
      sum[2] = w == 0 ? x.z : sum[2] + x.z;
      sum[3] = w == 0 ? x.w : sum[3] + x.w;
    }
  }

  /// Takes the state over one token and writes its output.
  LATHE_DEVICE_MEMBER void advance(int t) {
    const float *row = slice.rows + t * D::kWidth;
    // The other buffer may still be read by threads that are one token behind.
    float *partials = slice.partials + t % 2 * D::kWarps * 2 * D::kColumns;
    float k[D::kKeys], d[4];
    products(row, partials, k);
    syncTeam();

    const DeltaFactors f = slice.factors[t];
    totals(partials, d);
#pragma unroll
    for (int j = 0; j < 4; ++j)
      d[j] = f.beta * fma(f.fromKey, d[j], row[2 * D::kK + quad() + j]);
#pragma unroll
    for (int p = 0; p < D::kKeys; ++p)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        s[p][j] = fma(k[p], f.key * d[j], f.decay * s[p][j]);
    if (slice.thread < D::kLanes) {
      float o[4];
      totals(partials + D::kColumns, o);
      *(Float4 *)(args.out + t * D::kOutStride + slice.head * D::kV +
                  slice.column + quad()) = {
          fma(f.query, o[0], f.dot * d[0]), fma(f.query, o[1], f.dot * d[1]),
          fma(f.query, o[2], f.dot * d[2]), fma(f.query, o[3], f.dot * d[3])};
    }
  }
};

/// Conv, norms, gates and the delta rule for Cfg::kTokens tokens. Launch
/// deltaStepBlocks(shape) blocks of kDeltaStepThreads threads with
/// deltaStepShared(shape, kTokens) bytes.
template <class Cfg>
LATHE_DEVICE void
deltaStep(const LatheLaunch &ctx, const float *qkv, const float *a,
          const float *b, const float *convWeight, const float *aLog,
          const float *dtBias, float *convState, float *state, float *out) {
  const DeltaArgs args{qkv,    a,         b,     convWeight, aLog,
                       dtBias, convState, state, out};
  DeltaStep<Cfg> stage(ctx, args, sharedMemory(), blockX(), gridX());
  stage.prefetch();
  waitForPrevious();
  launchNext();
  stage.run();
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_DELTA_STEP_CUH
