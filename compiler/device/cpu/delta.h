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
// With replay (Cfg::kReplay) the state is the one before the ctx->pending
// tokens in front of ctx->position. Token p's row of qkv is row p %
// LATHE_REPLAY_RING of the conv state, [LATHE_REPLAY_RING][C]; its gates, beta
// and e^g, are the same row behind the matrices, [LATHE_REPLAY_RING][2][stride
// of Hv]. That is all the recurrence reads, so a kernel can fold these tokens
// into S with the operations of an ordinary step. Which tokens are pending is
// the caller's choice: one that is not counted has never been.
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
    return {Cfg::kKeyHeads, Cfg::kValueHeads, kK, kV, chunk, Cfg::kReplay};
  }
  static constexpr int query(int keyHead) { return keyHead * kK; }
  static constexpr int key(int keyHead) {
    return (Cfg::kKeyHeads + keyHead) * kK;
  }
  static constexpr int value(int valueHead) {
    return 2 * Cfg::kKeyHeads * kK + valueHead * kV;
  }
  static_assert(kK % 16 == 0 && kV % 16 == 0);
  static_assert(Cfg::kTaps - 1 + 2 * LATHE_REPLAY_TOKENS <= LATHE_REPLAY_RING);
  static_assert(Cfg::kValueHeads % Cfg::kKeyHeads == 0);
};

struct DeltaArgs {
  const float *qkv, *a, *b, *convWeight, *aLog, *dtBias;
  float *convState, *state, *out;
  int position; ///< of the first token
};

/// The ring's row of token `t`, counted from the first of this launch.
LATHE_INLINE int ringRow(const DeltaArgs &args, int t) {
  return (args.position + t + LATHE_REPLAY_RING) % LATHE_REPLAY_RING;
}

/// Beta of token `t` and `head` in the ring of gates; e^g is kGateStride on.
template <class Cfg>
LATHE_INLINE float *ringGates(const DeltaArgs &args, int t, int head) {
  using D = DeltaDims<Cfg>;
  float *ring = args.state + (i64)Cfg::kValueHeads * D::kK * D::kV;
  return ring + (i64)ringRow(args, t) * 2 * D::kGateStride + head;
}

/// The input row of token `t`, where t < 0 is one of the remembered ones.
template <class Cfg>
LATHE_INLINE const float *inputRow(const DeltaArgs &args, int t) {
  using D = DeltaDims<Cfg>;
  if (t >= 0)
    return args.qkv + (i64)t * D::kInStride;
  int row = Cfg::kReplay ? ringRow(args, t) : t + Cfg::kTaps - 1;
  return args.convState + (i64)row * D::kChannels;
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

/// q of one key head for tokens first .. first + count.
template <class Cfg>
static void loadQueries(const DeltaArgs &args, int keyHead, int first,
                        int count, float *q) {
  using D = DeltaDims<Cfg>;
  convolve<Cfg>(args, D::query(keyHead), D::kK, first, count, q);
  l2Normalize<D::kK>(q, count, Cfg::kQkEps, Cfg::kQScale);
}

/// The same for k.
template <class Cfg>
static void loadKeys(const DeltaArgs &args, int keyHead, int first, int count,
                     float *k) {
  using D = DeltaDims<Cfg>;
  convolve<Cfg>(args, D::key(keyHead), D::kK, first, count, k);
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

/// Moves the last `rows` inputs of channels [begin, end) into the state.
/// Without replay `rows` is taps - 1, what the state holds; with it, some new
/// tokens.
template <class Cfg>
static void keepInputs(const DeltaArgs &args, int tokens, int rows, int begin,
                       int end) {
  using D = DeltaDims<Cfg>;
  // A row never comes from an earlier one, so ascending order is safe.
  for (int r = 0; r < rows; ++r) {
    const int t = tokens - rows + r;
    const float *from = inputRow<Cfg>(args, t);
    float *to = args.convState +
                (i64)(Cfg::kReplay ? ringRow(args, t) : r) * D::kChannels;
    for (int c = begin; c < end; c += 16)
      store(to + c, load(from + c));
  }
}

/// Moves the last `rows` inputs of this thread's key heads and their value
/// heads into the state. Call last: with `wait` it waits for the other readers
/// where key heads are shared.
template <class Cfg>
static void advanceConvState(const LatheContext *ctx, const DeltaArgs &args,
                             int rows, bool wait) {
  using D = DeltaDims<Cfg>;
  if (wait && Cfg::kKeyHeads % ctx->threads != 0)
    barrier(ctx);
  Range keys = shareOf(ctx, Cfg::kKeyHeads);
  auto keep = [&](int begin, int end) {
    keepInputs<Cfg>(args, ctx->tokens, rows, begin, end);
  };
  keep(D::query(keys.begin), D::query(keys.end));
  keep(D::key(keys.begin), D::key(keys.end));
  keep(D::value(keys.begin * D::kRatio), D::value(keys.end * D::kRatio));
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_DELTA_H
