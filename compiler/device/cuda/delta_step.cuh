//===- delta_step.cuh - Gated DeltaNet for a few tokens -------*- CUDA -*-===//
//
// The recurrence of delta.cuh for up to eight tokens in sequence, with one read
// and one write of the state from memory whatever their number. A block has 16
// or 32 value columns of one head and keeps their state in registers: a thread
// has four columns of every kRows-th key. With the state before a token called
// S, one sweep yields both products that its output needs:
//
//   d = beta (v - e^g S^T k)
//   o = e^g S^T q + (k . q) d
//
// So there is one barrier per token, between the threads' partial products and
// their sums. Every block convolves and normalises q and k of its key head for
// itself, which costs less than waiting for a launch that does it once; the
// loads of the state are issued first and arrive meanwhile.
//
// The order of every sum follows from the shape alone, so a token's result does
// not depend on how many tokens come with it. Blocks only write ring rows of
// this launch's positions and only read rows of earlier ones.
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

/// The sums over all warps for this thread's four columns.
template <class D>
LATHE_DEVICE void stepTotals(const float *partials, float (&sum)[4]) {
  const float *at = partials + threadX() % D::kLanes * 4;
#pragma unroll
  for (int w = 0; w < D::kWarps; ++w) {
    Float4 x = *(const Float4 *)(at + w * 2 * D::kColumns);
    sum[0] = w == 0 ? x.x : sum[0] + x.x;
    sum[1] = w == 0 ? x.y : sum[1] + x.y;
    sum[2] = w == 0 ? x.z : sum[2] + x.z;
    sum[3] = w == 0 ? x.w : sum[3] + x.w;
  }
}

/// Leaves the warp's part of S^T k and S^T q in `partials`, from this thread's
/// part of S; k becomes that of the thread's keys.
template <class D>
LATHE_DEVICE void stepProducts(const float *row,
                               const float (&s)[D::kPasses][4], float *partials,
                               float (&k)[D::kPasses]) {
  float x[8] = {};
#pragma unroll
  for (int p = 0; p < D::kPasses; ++p) {
    int at = p * D::kRows + threadX() / D::kLanes;
    bool exists = D::kK % D::kRows == 0 || at < D::kK;
    float q = exists ? row[at] : 0.0f;
    k[p] = exists ? row[D::kK + at] : 0.0f;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      x[j] = fma(k[p], s[p][j], x[j]);
      x[4 + j] = fma(q, s[p][j], x[4 + j]);
    }
  }
  int first = dealSums<D::kLanes>(x), quad = threadX() % D::kLanes * 4;
#pragma unroll
  for (int i = 0; i < D::kLanes / 4; ++i)
    partials[(warp() * 2 + (first + i) / 4) * D::kColumns + quad +
             (first + i) % 4] = x[i];
}

/// One token: s is this thread's part of the state, before and after it.
template <class Cfg>
LATHE_DEVICE void stepToken(const DeltaStepBlock &block, int t,
                            float (&s)[DeltaStepDims<Cfg>::kPasses][4],
                            float *out) {
  using D = DeltaStepDims<Cfg>;
  const float *row = block.rows + t * D::kWidth;
  const int quad = threadX() % D::kLanes * 4;
  // The other buffer may still be read by threads that are one token behind.
  float *partials = block.partials + t % 2 * D::kWarps * 2 * D::kColumns;
  float k[D::kPasses];
  stepProducts<D>(row, s, partials, k);
  syncThreads();

  float beta = block.gates[t * 4], decay = block.gates[t * 4 + 1];
  float d[4];
  stepTotals<D>(partials, d);
#pragma unroll
  for (int j = 0; j < 4; ++j)
    d[j] = beta * fma(-decay, d[j], row[2 * D::kK + quad + j]);
#pragma unroll
  for (int p = 0; p < D::kPasses; ++p)
#pragma unroll
    for (int j = 0; j < 4; ++j)
      s[p][j] = fma(k[p], d[j], decay * s[p][j]);
  if (threadX() < D::kLanes) {
    float dot = block.gates[t * 4 + 2], o[4];
    stepTotals<D>(partials + D::kColumns, o);
    *(Float4 *)(out + (i64)t * D::kOutStride + quad) = {
        fma(decay, o[0], dot * d[0]), fma(decay, o[1], dot * d[1]),
        fma(decay, o[2], dot * d[2]), fma(decay, o[3], dot * d[3])};
  }
}

/// Calls visit(part of s, where it is in the plain state) for the four columns
/// of each of this thread's keys.
template <class D, class Visit>
LATHE_DEVICE void visitStepState(const DeltaStepBlock &block, float *state,
                                 float (&s)[D::kPasses][4], Visit visit) {
  int key = threadX() / D::kLanes;
  float *first = state + (block.head * D::kK + key) * D::kV + block.column +
                 threadX() % D::kLanes * 4;
#pragma unroll
  for (int p = 0; p < D::kPasses; ++p)
    if (D::kK % D::kRows == 0 || p * D::kRows + key < D::kK)
      visit(s[p], first + p * D::kRows * D::kV);
}

/// Conv, norms, gates and the delta rule for Cfg::kTokens tokens. Launch
/// deltaStepBlocks(shape) blocks of kDeltaStepThreads threads with
/// deltaStepShared(shape, kTokens) bytes.
template <class Cfg>
LATHE_DEVICE void
deltaStep(const LatheLaunch &ctx, const float *qkv, const float *a,
          const float *b, const float *convWeight, const float *aLog,
          const float *dtBias, float *convState, float *state, float *out) {
  using D = DeltaStepDims<Cfg>;
  DeltaArgs args{qkv, a, b, convWeight, aLog, dtBias, convState, state, out};
  DeltaStepBlock block = deltaStepBlock<D>();
  DeltaStepInputs<D> inputs;
  loadWeights<Cfg>(args, block, inputs);

  waitForPrevious();
  const int position = ctx.step->position;
  float s[D::kPasses][4] = {};
  visitStepState<D>(block, state, s, [](float (&x)[4], const float *plain) {
    Float4 v = loadOnce(plain);
    x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
  });
  loadInputs<Cfg>(args, block, position, inputs);
  launchNext();

  stepRows(block, inputs);
  syncThreads();
  // The first warp may have more channels than the last.
  const int row = D::kWarps - 1 - warp();
  if (row < D::kTokens)
    stepNormalize<Cfg>(block.rows + row * D::kWidth, block.gates + row * 4);
  keepStepInputs<Cfg>(args, block, position, inputs);
  syncThreads();
#pragma unroll 1
  for (int t = 0; t < D::kTokens; ++t)
    stepToken<Cfg>(block, t, s, out + block.head * D::kV + block.column);
  visitStepState<D>(block, state, s, [](const float (&x)[4], float *plain) {
    *(Float4 *)plain = {x[0], x[1], x[2], x[3]};
  });
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_DELTA_STEP_CUH
