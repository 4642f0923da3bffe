//===- delta_step_inputs.cuh - what deltaStep starts from ------*- CUDA -*-===//
//
// The part of delta_step.cuh before the recurrence: a block's share of the
// problem, the convolution of its channels, the norms and the gates.
//
// Every load is issued before the first result is needed. The ring's rows wait
// for the position and so come last; those of weights do not wait for the
// launch before.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_DELTA_STEP_INPUTS_CUH
#define LATHE_COMPILER_DEVICE_CUDA_DELTA_STEP_INPUTS_CUH

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
  bool ownsKeys;   ///< keeps the inputs of its key head's q and k
  float *rows;     ///< [token][q, k, v]
  float *gates;    ///< [token][beta, decay, k . q, unused]
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

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_DELTA_STEP_INPUTS_CUH
