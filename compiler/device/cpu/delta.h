//===- delta.h - what both Gated-DeltaNet kernels share ---------*- C++ -*-===//
//
// The Gated DeltaNet mixer (arXiv 2412.06464) up to its recurrence: the short
// causal convolution with SiLU, the l2-norm of q and k, and the two gates.
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
// strideOf(C); a and b [T][Hv]; conv weights [taps][C]; conv state
// [taps - 1][C], the last inputs before the convolution, oldest first;
// recurrent state [Hv][K][V]; out [T][Hv * V]. Value head j belongs to key
// head j / (Hv / Hk). Head dimensions are multiples of 16.
//
// A thread owns value heads. Threads that share a key head convolve it each on
// their own; the conv state is replaced only after all of them have read it.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_DELTA_H
#define LATHE_COMPILER_DEVICE_CPU_DELTA_H

#include "compiler/device/cpu/prelude.h"
#include "compiler/device/cpu/scratch_mixers.h"

namespace lathe {

template <class Cfg> struct DeltaDims {
  static constexpr int kK = Cfg::kKeyDim, kV = Cfg::kValueDim;
  static constexpr int kRatio = Cfg::kValueHeads / Cfg::kKeyHeads;
  static constexpr int kChannels =
      2 * Cfg::kKeyHeads * kK + Cfg::kValueHeads * kV;
  static constexpr int kInStride = strideOf(kChannels);
  static constexpr int kGateStride = strideOf(Cfg::kValueHeads);
  static constexpr int kOutStride = strideOf(Cfg::kValueHeads * kV);
  static constexpr DeltaShape shape(int chunk) {
    return {Cfg::kKeyHeads, Cfg::kValueHeads, kK, kV, chunk};
  }
  static constexpr int query(int keyHead) { return keyHead * kK; }
  static constexpr int key(int keyHead) {
    return (Cfg::kKeyHeads + keyHead) * kK;
  }
  static constexpr int value(int valueHead) {
    return 2 * Cfg::kKeyHeads * kK + valueHead * kV;
  }
  static_assert(kK % 16 == 0 && kV % 16 == 0);
  static_assert(Cfg::kValueHeads % Cfg::kKeyHeads == 0);
};

struct DeltaArgs {
  const float *qkv, *a, *b, *convWeight, *aLog, *dtBias;
  float *convState, *state, *out;
};

/// The input row of token `t`, where t < 0 is one of the remembered ones.
template <class Cfg>
LATHE_INLINE const float *inputRow(const DeltaArgs &args, int t) {
  using D = DeltaDims<Cfg>;
  return t < 0 ? args.convState + (i64)(t + Cfg::kTaps - 1) * D::kChannels
               : args.qkv + (i64)t * D::kInStride;
}

/// rows[i][0..width) = silu(conv) of token first + i from `channel` on.
template <class Cfg>
static void convolve(const DeltaArgs &args, int channel, int width, int first,
                     int count, float *rows) {
  using D = DeltaDims<Cfg>;
  constexpr int kTaps = Cfg::kTaps;
  const float *weight = args.convWeight + channel;
  constexpr int kAhead = 4;
  for (int i = 0; i < count; ++i) {
    const float *in[kTaps];
    for (int j = 0; j < kTaps; ++j)
      in[j] = inputRow<Cfg>(args, first + i - (kTaps - 1) + j) + channel;
    // Rows are too far apart for the hardware to see the next one coming.
    const float *coming =
        args.qkv + (i64)(first + i + kAhead) * D::kInStride + channel;
    for (int c = 0; c < width; c += 16) {
      __builtin_prefetch(coming + c);
      f32x16 acc = load(in[0] + c) * load(weight + c);
#pragma unroll
      for (int j = 1; j < kTaps; ++j)
        acc = fma(load(in[j] + c), load(weight + j * D::kChannels + c), acc);
      store(rows + (i64)i * width + c, silu(acc));
    }
  }
}

/// Scales each row of `count` to length 1 (eps inside the sum), then by scale.
template <int kWidth>
static void l2Normalize(float *rows, int count, float eps, float scale) {
  for (int i = 0; i < count; ++i, rows += kWidth) {
    f32x16 squares = splat(0.0f);
    for (int c = 0; c < kWidth; c += 16)
      squares = fma(load(rows + c), load(rows + c), squares);
    f32x16 factor = splat(rsqrt(sum(squares) + eps) * scale);
    for (int c = 0; c < kWidth; c += 16)
      store(rows + c, load(rows + c) * factor);
  }
}

/// q and k of one key head for tokens first .. first + count.
template <class Cfg>
static void loadKeyHead(const DeltaArgs &args, int keyHead, int first,
                        int count, float *q, float *k) {
  using D = DeltaDims<Cfg>;
  convolve<Cfg>(args, D::query(keyHead), D::kK, first, count, q);
  convolve<Cfg>(args, D::key(keyHead), D::kK, first, count, k);
  l2Normalize<D::kK>(q, count, Cfg::kQkEps, Cfg::kQScale);
  l2Normalize<D::kK>(k, count, Cfg::kQkEps, 1.0f);
}

struct DeltaGates {
  float beta; ///< how much of the difference to write, in (0, 1)
  float g;    ///< log of the decay, <= 0
};

template <class Cfg>
LATHE_INLINE DeltaGates deltaGates(const DeltaArgs &args, int head, int t) {
  i64 at = (i64)t * DeltaDims<Cfg>::kGateStride + head;
  return {sigmoid(args.b[at]),
          -exp(args.aLog[head]) * softplus(args.a[at] + args.dtBias[head])};
}

/// Moves the last taps - 1 inputs of channels [begin, end) into the state.
template <class Cfg>
static void keepInputs(const DeltaArgs &args, int tokens, int begin, int end) {
  using D = DeltaDims<Cfg>;
  // A row never comes from an earlier one, so ascending order is safe.
  for (int r = 0; r < Cfg::kTaps - 1; ++r) {
    const float *from = inputRow<Cfg>(args, tokens - (Cfg::kTaps - 1) + r);
    float *to = args.convState + (i64)r * D::kChannels;
    for (int c = begin; c < end; c += 16)
      store(to + c, load(from + c));
  }
}

/// Advances the conv state of this thread's key heads and their value heads.
/// Call last: it waits for the other readers where key heads are shared.
template <class Cfg>
static void advanceConvState(const LatheContext *ctx, const DeltaArgs &args) {
  using D = DeltaDims<Cfg>;
  if (Cfg::kKeyHeads % ctx->threads != 0)
    barrier(ctx);
  Range keys = shareOf(ctx, Cfg::kKeyHeads);
  int tokens = ctx->tokens;
  keepInputs<Cfg>(args, tokens, D::query(keys.begin), D::query(keys.end));
  keepInputs<Cfg>(args, tokens, D::key(keys.begin), D::key(keys.end));
  keepInputs<Cfg>(args, tokens, D::value(keys.begin * D::kRatio),
                  D::value(keys.end * D::kRatio));
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_DELTA_H
