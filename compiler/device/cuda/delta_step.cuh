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

#include "compiler/device/cuda/delta.cuh"

namespace lathe {

template <class Cfg> struct DeltaStepDims : DeltaDims<Cfg> {
  using D = DeltaDims<Cfg>;
  static constexpr int kTokens = Cfg::kTokens;
  static constexpr int kWarps = kDeltaStepThreads / 32;
  static constexpr int kColumns = deltaStepColumns(D::shape());
  static constexpr int kSlices = D::kV / kColumns;
  static constexpr int kWidth = deltaStepWidth(D::shape());
  static constexpr int kChannelPasses = ceilDiv(kWidth, kDeltaStepThreads);
  static constexpr int kLanes = kColumns / 4; ///< threads per key
  static constexpr int kRows = kDeltaStepThreads / kLanes;
  static constexpr int kPasses = ceilDiv(D::kK, kRows);
  static_assert(kTokens >= 1 && kTokens <= 8);
  static_assert(kTokens + D::kTaps - 1 <= LATHE_CONV_RING);
};

/// Which part of the problem this block has.
struct DeltaStepBlock {
  int head, keyHead, column;
  bool
      ownsKeys; ///< the one block of the key head that keeps q's and k's inputs
  float *rows;  ///< [token][q, k, v]
  float *gates; ///< [token][beta, decay, k . q, unused]
  float *partials; ///< [buffer][warp][with k, with q][column]
};

template <class D> LATHE_DEVICE DeltaStepBlock deltaStepBlock() {
  int head = blockX() / D::kSlices, column = blockX() % D::kSlices;
  float *shared = (float *)sharedMemory();
  return {head,
          head / D::kRatio,
          column * D::kColumns,
          column == 0 && head % D::kRatio == 0,
          shared,
          shared + D::kTokens * D::kWidth,
          shared + D::kTokens * (D::kWidth + 4)};
}

/// The channel whose convolution is value `i` of a row.
template <class D>
LATHE_DEVICE int stepChannel(const DeltaStepBlock &block, int i) {
  int q = D::query(block.keyHead) + i;
  int k = D::key(block.keyHead) + i - D::kK;
  int v = D::value(block.head) + block.column + i - 2 * D::kK;
  return i < D::kK ? q : i < 2 * D::kK ? k : v;
}

/// The value of a row that this thread convolves in `pass`; threads beyond the
/// row repeat its last one.
template <class D> LATHE_DEVICE int stepValue(int pass) {
  int i = pass * kDeltaStepThreads + threadX();
  return i < D::kWidth ? i : D::kWidth - 1;
}
/// The same for all threads of a warp.
template <class D> LATHE_DEVICE bool stepValueExists(int pass) {
  return pass * kDeltaStepThreads + warp() * 32 < D::kWidth;
}

/// What a thread convolves, and what makes a head's gates.
template <class D> struct DeltaStepInputs {
  float weight[D::kChannelPasses][D::kTaps];
  float in[D::kChannelPasses][D::kTaps - 1 + D::kTokens];
  float a, b, aLog, dtBias; ///< of token `lane`, in the last warp
};

/// The inputs that no launch writes.
template <class Cfg>
LATHE_DEVICE void loadWeights(const DeltaArgs &args,
                              const DeltaStepBlock &block,
                              DeltaStepInputs<DeltaStepDims<Cfg>> &inputs) {
  using D = DeltaStepDims<Cfg>;
#pragma unroll
  for (int p = 0; p < D::kChannelPasses; ++p)
    loadTaps<Cfg>(args, stepChannel<D>(block, stepValue<D>(p)),
                  inputs.weight[p]);
  inputs.aLog = args.aLog[block.head];
  inputs.dtBias = args.dtBias[block.head];
}

/// The others. Those of this launch come first: the ring has to wait for the
/// position.
template <class Cfg>
LATHE_DEVICE void loadInputs(const DeltaArgs &args, const DeltaStepBlock &block,
                             int position,
                             DeltaStepInputs<DeltaStepDims<Cfg>> &inputs) {
  using D = DeltaStepDims<Cfg>;
  constexpr int kBefore = D::kTaps - 1;
  int token = lane() < D::kTokens ? lane() : 0;
  inputs.a = args.a[token * D::kGateStride + block.head];
  inputs.b = args.b[token * D::kGateStride + block.head];
#pragma unroll
  for (int p = 0; p < D::kChannelPasses; ++p)
    if (stepValueExists<D>(p))
#pragma unroll
      for (int t = 0; t < D::kTokens; ++t)
        inputs.in[p][kBefore + t] =
            args.qkv[t * D::kInStride + stepChannel<D>(block, stepValue<D>(p))];
#pragma unroll
  for (int p = 0; p < D::kChannelPasses; ++p)
    if (stepValueExists<D>(p))
#pragma unroll
      for (int j = 0; j < kBefore; ++j)
        inputs.in[p][j] =
            ringRow<Cfg>(args, position - kBefore +
                                   j)[stepChannel<D>(block, stepValue<D>(p))];
}

/// Convolves this thread's channels for all tokens and makes the gates.
template <class D>
LATHE_DEVICE void stepRows(const DeltaStepBlock &block,
                           const DeltaStepInputs<D> &inputs) {
#pragma unroll
  for (int p = 0; p < D::kChannelPasses; ++p)
    if (stepValueExists<D>(p))
#pragma unroll
      for (int t = 0; t < D::kTokens; ++t)
        block.rows[t * D::kWidth + stepValue<D>(p)] =
            convolve(inputs.in[p] + t, inputs.weight[p]);
  // The last warp has the fewest channels.
  if (warp() == D::kWarps - 1) {
    DeltaGates gates =
        deltaGates(inputs.a, inputs.b, inputs.aLog, inputs.dtBias);
    if (lane() < D::kTokens) {
      block.gates[lane() * 4] = gates.beta;
      block.gates[lane() * 4 + 1] = gates.decay;
    }
  }
}

/// Keeps the inputs of this launch's tokens; one block does for each channel.
template <class Cfg>
LATHE_DEVICE void
keepStepInputs(const DeltaArgs &args, const DeltaStepBlock &block, int position,
               const DeltaStepInputs<DeltaStepDims<Cfg>> &inputs) {
  using D = DeltaStepDims<Cfg>;
#pragma unroll
  for (int p = 0; p < D::kChannelPasses; ++p) {
    int i = stepValue<D>(p);
    if (stepValueExists<D>(p) && (block.ownsKeys || i >= 2 * D::kK))
#pragma unroll
      for (int t = 0; t < D::kTokens; ++t)
        ringRow<Cfg>(args, position + t)[stepChannel<D>(block, i)] =
            inputs.in[p][D::kTaps - 1 + t];
  }
}

/// Normalises q and k of one token, by one warp, and leaves k . q.
template <class Cfg> LATHE_DEVICE void stepNormalize(float *row, float *gates) {
  using D = DeltaStepDims<Cfg>;
  constexpr int kEach = ceilDiv(D::kK, 32);
  float q[kEach], k[kEach], qq = 0, kk = 0, kq = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    int at = i * 32 + lane();
    bool exists = D::kK % 32 == 0 || at < D::kK;
    q[i] = exists ? row[at] : 0.0f;
    k[i] = exists ? row[D::kK + at] : 0.0f;
    qq = fma(q[i], q[i], qq);
    kk = fma(k[i], k[i], kk);
    kq = fma(k[i], q[i], kq);
  }
  float qScale = rsqrt(warpSum(qq) + Cfg::kQkEps) * Cfg::kQScale;
  float kScale = rsqrt(warpSum(kk) + Cfg::kQkEps);
  gates[2] = warpSum(kq) * qScale * kScale;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    int at = i * 32 + lane();
    if (D::kK % 32 == 0 || at < D::kK) {
      row[at] = q[i] * qScale;
      row[D::kK + at] = k[i] * kScale;
    }
  }
}

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

/// One token: s is this thread's part of the state, before and after it.
template <class Cfg>
LATHE_DEVICE void stepToken(const DeltaStepBlock &block, int t,
                            float (&s)[DeltaStepDims<Cfg>::kPasses][4],
                            float *out) {
  using D = DeltaStepDims<Cfg>;
  const float *row = block.rows + t * D::kWidth;
  float k[D::kPasses], x[8] = {};
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
  // The other buffer may still be read by threads that are one token behind.
  float *partials = block.partials + t % 2 * D::kWarps * 2 * D::kColumns;
  int first = dealSums<D::kLanes>(x), quad = threadX() % D::kLanes * 4;
#pragma unroll
  for (int i = 0; i < D::kLanes / 4; ++i)
    partials[(warp() * 2 + (first + i) / 4) * D::kColumns + quad +
             (first + i) % 4] = x[i];
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
  const int t = D::kWarps - 1 - warp();
  if (t < D::kTokens)
    stepNormalize<Cfg>(block.rows + t * D::kWidth, block.gates + t * 4);
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
