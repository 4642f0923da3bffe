//===- delta_step_inputs.cuh - what deltaStep starts from ------*- CUDA -*-===//
//
// The part of delta_step.cuh before the recurrence: a team's slice of the
// problem, the convolution of its channels, the norms and the gates.
//
// Every load is issued before the first result is needed, and whatever this
// step does not write (weights, the ring) before its inputs are there.
//
// Rows hold q and k as they were convolved. Their norms are factors, so that
// they are found while the first products with the state are under way.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_DELTA_STEP_INPUTS_CUH
#define LATHE_COMPILER_DEVICE_CUDA_DELTA_STEP_INPUTS_CUH

#include "compiler/device/cuda/delta.cuh"

namespace lathe {

template <class Cfg> struct DeltaStepDims : DeltaDims<Cfg> {
  using D = DeltaDims<Cfg>;
  static constexpr int kTokens = Cfg::kTokens;
  static constexpr int kThreads = kDeltaStepThreads, kWarps = kThreads / 32;
  static constexpr int kColumns = kDeltaStepColumns;
  static constexpr int kSlicesPerHead = D::kV / kColumns;
  static constexpr int kSlices = deltaStepSlices(D::shape());
  static constexpr int kWidth = deltaStepWidth(D::shape());
  static constexpr int kPairPasses = ceilDiv(D::kK, kThreads);
  static constexpr int kLanes = kColumns / 4; ///< threads per key
  static constexpr int kKeys = ceilDiv(D::kK, kThreads / kLanes); ///< of one
  static_assert(kTokens >= 1 && kTokens <= 8);
  static_assert(kTokens * kColumns <= kThreads, "a thread per value");
  static_assert(kTokens + D::kTaps - 1 <= LATHE_CONV_RING);
};

/// What the recurrence multiplies with, per token.
struct alignas(16) DeltaFactors {
  float beta, decay, fromKey; ///< fromKey: of S^T k in d
  float key;                  ///< of k
  float query;                ///< of S^T q in the output
  float dot;                  ///< of d in the output
  float unused[2];
};
static_assert(sizeof(DeltaFactors) == kDeltaStepFactors * sizeof(float));

/// Which part of the problem a team has, and its memory.
struct DeltaStepSlice {
  int head, keyHead, column;
  bool ownsKeys;         ///< keeps the inputs of its key head's q and k
  int thread, warp;      ///< of the team
  float *rows;           ///< [token][q, k, v]
  DeltaFactors *factors; ///< [token]
  float *partials;       ///< [buffer][warp][with k, with q][column]
};

template <class D>
LATHE_DEVICE DeltaStepSlice deltaStepSlice(int slice, int thread, int warp,
                                           char *shared) {
  const int head = slice / D::kSlicesPerHead;
  const int column = slice % D::kSlicesPerHead * D::kColumns;
  float *rows = (float *)shared;
  auto *factors = (DeltaFactors *)(rows + D::kTokens * D::kWidth);
  return {head,
          head / D::kRatio,
          column,
          column == 0 && head % D::kRatio == 0,
          thread,
          warp,
          rows,
          factors,
          (float *)(factors + D::kTokens)};
}

/// The channel whose convolution is value `i` of a row, in q or k.
template <class D>
LATHE_DEVICE int stepChannel(const DeltaStepSlice &slice, int i) {
  return i < D::kK ? D::query(slice.keyHead) + i
                   : D::key(slice.keyHead) + i - D::kK;
}

/// What a thread convolves, and what makes a head's gates. It has two channels
/// of q or k beside each other, for all tokens, and one value for one token.
template <class Cfg> struct DeltaStepInputs {
  using D = DeltaStepDims<Cfg>;
  static constexpr int kBefore = D::kTaps - 1;

  Float2 weight[D::kPairPasses][D::kTaps];
  Float2 in[D::kPairPasses][kBefore + D::kTokens];
  float valueWeight[D::kTaps], valueIn[D::kTaps];
  float a, b, aLog, dtBias; ///< of token `lane`, in the last warp

  /// Where the pair is in a row; threads beyond the row repeat its last one.
  static LATHE_DEVICE_MEMBER int pair(const DeltaStepSlice &slice, int pass) {
    const int i = pass * D::kThreads + slice.thread;
    return 2 * (i < D::kK ? i : D::kK - 1);
  }
  static LATHE_DEVICE_MEMBER bool hasPair(const DeltaStepSlice &slice,
                                          int pass) {
    return D::kK % D::kThreads == 0 ||
           pass * D::kThreads + slice.thread < D::kK;
  }
  static LATHE_DEVICE_MEMBER int valueToken(const DeltaStepSlice &slice) {
    const int token = slice.thread / D::kColumns;
    return token < D::kTokens ? token : 0;
  }
  static LATHE_DEVICE_MEMBER bool hasValue(const DeltaStepSlice &slice) {
    return slice.thread < D::kTokens * D::kColumns;
  }
  static LATHE_DEVICE_MEMBER int valueChannel(const DeltaStepSlice &slice) {
    return D::value(slice.head) + slice.column + slice.thread % D::kColumns;
  }

  /// The inputs that this step does not write.
  LATHE_DEVICE_MEMBER void loadPast(const DeltaArgs &args,
                                    const DeltaStepSlice &slice, int position) {
#pragma unroll
    for (int p = 0; p < D::kPairPasses; ++p) {
      const int channel = stepChannel<D>(slice, pair(slice, p));
#pragma unroll
      for (int j = 0; j < kBefore; ++j)
        in[p][j] = loadFresh(
            (const Float2 *)(ringRow<Cfg>(args, position - kBefore + j) +
                             channel));
#pragma unroll
      for (int j = 0; j < D::kTaps; ++j)
        weight[p][j] =
            *(const Float2 *)(args.convWeight + j * D::kChannels + channel);
    }
    loadTaps<Cfg>(args, valueChannel(slice), valueWeight);
    aLog = args.aLog[slice.head];
    dtBias = args.dtBias[slice.head];
  }

  /// The others.
  LATHE_DEVICE_MEMBER void load(const DeltaArgs &args,
                                const DeltaStepSlice &slice, int position) {
#pragma unroll
    for (int p = 0; p < D::kPairPasses; ++p)
#pragma unroll
      for (int t = 0; t < D::kTokens; ++t)
        in[p][kBefore + t] =
            loadFresh((const Float2 *)(args.qkv + t * D::kInStride +
                                       stepChannel<D>(slice, pair(slice, p))));
    const int channel = valueChannel(slice), token = valueToken(slice);
#pragma unroll
    for (int j = 0; j < D::kTaps; ++j) {
      const int t = token - kBefore + j;
      valueIn[j] = loadFresh((t < 0 ? ringRow<Cfg>(args, position + t)
                                    : args.qkv + t * D::kInStride) +
                             channel);
    }
    const int gates =
        (lane() < D::kTokens ? lane() : 0) * D::kGateStride + slice.head;
    a = loadFresh(args.a + gates);
    b = loadFresh(args.b + gates);
  }

  /// Leaves the convolved rows and, in `factors`, the gates.
  LATHE_DEVICE_MEMBER void convolveRows(const DeltaStepSlice &slice) const {
#pragma unroll
    for (int p = 0; p < D::kPairPasses; ++p)
#pragma unroll
      for (int t = 0; t < D::kTokens; ++t) {
        Float2 sum{in[p][t].x * weight[p][0].x, in[p][t].y * weight[p][0].y};
#pragma unroll
        for (int j = 1; j < D::kTaps; ++j)
          sum = {fma(in[p][t + j].x, weight[p][j].x, sum.x),
                 fma(in[p][t + j].y, weight[p][j].y, sum.y)};
        if (hasPair(slice, p))
          *(Float2 *)(slice.rows + t * D::kWidth +
                      pair(slice, p)) = {silu(sum.x), silu(sum.y)};
      }
    const float value = convolve(valueIn, valueWeight);
    if (hasValue(slice))
      slice.rows[valueToken(slice) * D::kWidth + 2 * D::kK +
                 slice.thread % D::kColumns] = value;
    if (slice.warp == D::kWarps - 1) {
      const DeltaGates gates = deltaGates(a, b, aLog, dtBias);
      if (lane() < D::kTokens) {
        slice.factors[lane()].beta = gates.beta;
        slice.factors[lane()].decay = gates.decay;
      }
    }
  }

  /// Keeps the inputs of this step's tokens; one team does for each channel.
  LATHE_DEVICE_MEMBER void
  keep(const DeltaArgs &args, const DeltaStepSlice &slice, int position) const {
#pragma unroll
    for (int p = 0; p < D::kPairPasses; ++p)
      if (slice.ownsKeys && hasPair(slice, p))
#pragma unroll
        for (int t = 0; t < D::kTokens; ++t)
          *(Float2 *)(ringRow<Cfg>(args, position + t) +
                      stepChannel<D>(slice, pair(slice, p))) =
              in[p][kBefore + t];
    if (hasValue(slice))
      ringRow<Cfg>(args, position + valueToken(slice))[valueChannel(slice)] =
          valueIn[kBefore];
  }
};

/// Completes the factors of one token, by one warp: the norms of q and k.
template <class Cfg>
LATHE_DEVICE void stepFactors(const float *row, DeltaFactors &factors) {
  using D = DeltaStepDims<Cfg>;
  constexpr int kEach = ceilDiv(D::kK, 32);
  float qq = 0, kk = 0, kq = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int at = i * 32 + lane();
    const bool exists = D::kK % 32 == 0 || at < D::kK;
    const float q = exists ? row[at] : 0.0f;
    const float k = exists ? row[D::kK + at] : 0.0f;
    qq = fma(q, q, qq);
    kk = fma(k, k, kk);
    kq = fma(k, q, kq);
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) {
    qq += shuffleXor(qq, mask);
    kk += shuffleXor(kk, mask);
    kq += shuffleXor(kq, mask);
  }
  const float query = rsqrt(qq + Cfg::kQkEps) * Cfg::kQScale;
  const float key = rsqrt(kk + Cfg::kQkEps), decay = factors.decay;
  factors.fromKey = -(decay * key);
  factors.key = key;
  factors.query = decay * query;
  factors.dot = kq * query * key;
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_DELTA_STEP_INPUTS_CUH
