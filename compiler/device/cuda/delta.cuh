//===- delta.cuh - what the Gated-DeltaNet kernels share ------*- CUDA -*-===//
//
// The Gated DeltaNet mixer (arXiv 2412.06464) up to its recurrence, as in
// compiler/device/cpu/delta.h: the short causal convolution with SiLU, the
// l2-norm of q and k, and the two gates.
//
//   c_t = silu(sum_j w[j] * u[t - (taps - 1) + j])       per channel
//   q = c_q / sqrt(sum c_q^2 + eps) * scale,  k alike without the scale
//   beta = sigmoid(b),  g = -exp(aLog) * softplus(a + dtBias) <= 0
//
// Then, per value head with state S [K][V] and decay e^g:
//
//   S <- e^g S;  d = beta (v - S^T k);  S <- S + k d^T;  o = S^T q
//
// Layouts: qkv rows are q heads, k heads, v heads (C channels), with stride
// strideOf(C); a and b [T][Hv]; conv weights [taps][C]; recurrent state
// [Hv][K][V]; out [T][Hv * V]. Value head j belongs to key head j / (Hv / Hk).
// The conv state is a ring [LATHE_CONV_RING][C] of the convolution's inputs,
// position p in row p % LATHE_CONV_RING, zero for positions before the first.
//
// With replay (Cfg::kReplay) the state is the one before the pending tokens in
// front of the step's position, the ring has LATHE_REPLAY_RING rows, and behind
// the matrices is one of gates, [LATHE_REPLAY_RING][2][stride of Hv], beta and
// e^g. A kernel folds the pending tokens into S with the operations of a step;
// which ones are pending is the caller's choice.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_DELTA_CUH
#define LATHE_COMPILER_DEVICE_CUDA_DELTA_CUH

#include "compiler/device/cuda/delta_sizes.h"
#include "compiler/device/cuda/prelude.cuh"

namespace lathe {

template <class Cfg> struct DeltaDims {
  static constexpr int kK = Cfg::kKeyDim, kV = Cfg::kValueDim;
  static constexpr int kTaps = Cfg::kTaps;
  static constexpr int kRatio = Cfg::kValueHeads / Cfg::kKeyHeads;
  static constexpr CudaDeltaShape shape() {
    return {Cfg::kKeyHeads, Cfg::kValueHeads, kK, kV, kTaps, Cfg::kReplay};
  }
  static constexpr int kChannels = shape().channels();
  static constexpr int kInStride = strideOf(kChannels);
  static constexpr int kGateStride = strideOf(Cfg::kValueHeads);
  static constexpr int kOutStride = strideOf(Cfg::kValueHeads * kV);

  /// Rows of the ring of inputs.
  static constexpr int kRing =
      Cfg::kReplay ? LATHE_REPLAY_RING : LATHE_CONV_RING;
  static_assert((kRing & (kRing - 1)) == 0);

  static constexpr int query(int keyHead) { return keyHead * kK; }
  static constexpr int key(int keyHead) {
    return (Cfg::kKeyHeads + keyHead) * kK;
  }
  static constexpr int value(int valueHead) {
    return 2 * Cfg::kKeyHeads * kK + valueHead * kV;
  }
  static_assert(kK % 16 == 0 && kK <= 256 && kV % 16 == 0 && kV <= 256);
  static_assert(Cfg::kValueHeads % Cfg::kKeyHeads == 0);
  static_assert(kTaps >= 2 && kTaps <= 8);
};

struct DeltaArgs {
  const float *qkv, *a, *b, *convWeight, *aLog, *dtBias;
  float *convState, *state, *out;
};

/// Where the ring keeps the input of a position, which may be negative.
template <class Cfg>
LATHE_DEVICE float *ringRow(const DeltaArgs &args, int position) {
  using D = DeltaDims<Cfg>;
  return args.convState + (position & (D::kRing - 1)) * D::kChannels;
}

/// With replay, where it keeps a position's beta of a head; e^g is kGateStride
/// on.
template <class Cfg>
LATHE_DEVICE float *ringGates(const DeltaArgs &args, int position, int head) {
  using D = DeltaDims<Cfg>;
  return args.state + Cfg::kValueHeads * D::kK * D::kV +
         (position & (D::kRing - 1)) * 2 * D::kGateStride + head;
}

template <class Cfg>
LATHE_DEVICE void loadTaps(const DeltaArgs &args, int channel,
                           float (&weight)[Cfg::kTaps]) {
#pragma unroll
  for (int j = 0; j < Cfg::kTaps; ++j)
    weight[j] = args.convWeight[j * DeltaDims<Cfg>::kChannels + channel];
}

/// The convolution's output for a token whose inputs start at in[0].
template <int kTaps>
LATHE_DEVICE float convolve(const float *in, const float (&weight)[kTaps]) {
  float sum = in[0] * weight[0];
#pragma unroll
  for (int j = 1; j < kTaps; ++j)
    sum = fma(in[j], weight[j], sum);
  return silu(sum);
}

/// log(1 + e^x) for any x.
LATHE_DEVICE float softplus(float x) {
  float magnitude = maximum(x, -x);
  return maximum(x, 0.0f) + log1p(exp(-magnitude));
}

struct alignas(8) DeltaGates {
  float beta;  ///< how much of the difference to write, in (0, 1)
  float decay; ///< e^g, in [0, 1]
};

LATHE_DEVICE DeltaGates deltaGates(float a, float b, float aLog, float dtBias) {
  return {sigmoid(b), exp(-exp(aLog) * softplus(a + dtBias))};
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_DELTA_CUH
