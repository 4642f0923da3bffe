//===- delta_step.h - Gated DeltaNet for a few tokens -----------*- C++ -*-===//
//
// The recurrence of delta.h for up to eight tokens in sequence, with one read
// and one write of the state from memory whatever their number: the state is
// the traffic (64 KB per head of 128 x 128), so it is worked through in blocks
// of value columns that stay in L1 while all tokens pass over them.
//
// With the state before the token called S, the outputs need S only through
// two products that one sweep yields:
//
//   d = beta (v - e^g S^T k)
//   o = e^g S^T q + (k . q) d
//
// The sweep that writes e^g S + k d^T also makes the next token's products.
// Columns are independent and every sum runs over the keys in order, so
// a token's result does not depend on how many tokens come with it.
//
// With replay the first `folded` tokens are the pending ones. They pass over
// the state as they did when they were new, but now for good: S is written
// after the last of them. Of the new ones S is not to know yet; from the second
// on they read what the one before left in a copy of the block's columns. A
// launch of no new tokens only settles the state, and a single new token, which
// nobody takes back, goes over it for good as well.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_DELTA_STEP_H
#define LATHE_COMPILER_DEVICE_CPU_DELTA_STEP_H

#include "compiler/device/cpu/delta.h"

namespace lathe {

// Vectors of columns per block. With several tokens a block must fit into L1;
// where it is passed over only twice, whole rows stream best.
#ifdef __AVX512F__
constexpr int kStepVectors = 4, kTwoPassVectors = 8;
#else
constexpr int kStepVectors = 2, kTwoPassVectors = 2;
#endif
static_assert(16 * kStepVectors <= kStepColumns);

/// One value head's work: rows are dense, `out` has the activation's stride.
/// Arrays per token begin with the folded ones, whose queries are zero.
struct DeltaStepHead {
  const float *q, *k, *v;
  const float *beta, *decay, *dots; ///< per token; dots is k . q
  float *state, *ahead, *out;       ///< `out` is the first new token's
  int folded, tokens;               ///< tokens: folded and new ones
};

/// The two products of a state's columns with a token's k and q.
template <int kVectors> struct StateReads {
  f32x16 k[kVectors], q[kVectors];
};

/// Some columns of a state.
struct StateColumns {
  float *data;
  int stride;
};

template <int kVectors>
LATHE_INLINE void readRow(StateReads<kVectors> &reads,
                          const f32x16 (&row)[kVectors], float kx, float qx) {
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    reads.k[j] = fma(splat(kx), row[j], reads.k[j]);
    reads.q[j] = fma(splat(qx), row[j], reads.q[j]);
  }
}

/// row i of `to` <- decay * row i of `from` + kx * d
template <int kVectors>
LATHE_INLINE void updateRow(StateColumns from, StateColumns to, int i,
                            f32x16 decay, float kx, const f32x16 (&d)[kVectors],
                            f32x16 (&row)[kVectors]) {
  const float *p = from.data + i * from.stride;
  float *written = to.data + i * to.stride;
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    row[j] = fma(splat(kx), d[j], decay * load(p + j * 16));
    store(written + j * 16, row[j]);
  }
}

/// The products of the first token.
template <class Cfg, int kVectors>
static StateReads<kVectors> firstReads(const DeltaStepHead &h, int column) {
  using D = DeltaDims<Cfg>;
  const float *state = h.state + column;
  StateReads<kVectors> reads = {};
  f32x16 row[kVectors];
  for (int i = 0; i < D::kK; ++i) {
    // The first block brings whole rows into L2: strips stream badly.
    if (column == 0 && 16 * kVectors < D::kV)
      for (int j = 0; j < D::kV; j += 16)
        __builtin_prefetch(state + (i + 8) * D::kV + j, 0, 2);
#pragma unroll
    for (int j = 0; j < kVectors; ++j)
      row[j] = load(state + i * D::kV + j * 16);
    readRow(reads, row, h.k[i], h.q[i]);
  }
  return reads;
}

template <class Cfg, int kVectors>
static void stepColumns(const DeltaStepHead &h, int column) {
  using D = DeltaDims<Cfg>;
  const StateColumns state{h.state + column, D::kV};
  const StateColumns ahead{h.ahead, kStepColumns};
  const bool single = h.tokens == h.folded + 1;
  StateReads<kVectors> reads = firstReads<Cfg, kVectors>(h, column);
  f32x16 row[kVectors], d[kVectors];
  for (int t = 0; t < h.tokens; ++t) {
    const float *k = h.k + t * D::kK;
    f32x16 decay = splat(h.decay[t]);
    for (int j = 0; j < kVectors; ++j) {
      f32x16 v = load(h.v + t * D::kV + column + j * 16);
      d[j] = h.beta[t] * fma(-decay, reads.k[j], v);
      if (t >= h.folded)
        store(h.out + (i64)(t - h.folded) * D::kOutStride + column + j * 16,
              fma(decay, reads.q[j], h.dots[t] * d[j]));
    }
    const bool last = t + 1 == h.tokens;
    const bool kept = !Cfg::kReplay || t < h.folded || single;
    if (last && !kept)
      return;
    const StateColumns from = !Cfg::kReplay || t <= h.folded ? state : ahead;
    const StateColumns to = kept ? state : ahead;
    if (last) {
      for (int i = 0; i < D::kK; ++i)
        updateRow(from, to, i, decay, k[i], d, row);
      return;
    }
    const float *next = h.q + (t + 1) * D::kK;
    reads = {};
    for (int i = 0; i < D::kK; ++i) {
      updateRow(from, to, i, decay, k[i], d, row);
      readRow(reads, row, k[D::kK + i], next[i]);
    }
  }
}

template <class Cfg, int kVectors>
static void stepBlocks(const DeltaStepHead &h) {
  constexpr int kV = Cfg::kValueDim, kWidth = 16 * kVectors;
  constexpr int kWhole = kV / kWidth * kWidth;
  for (int c = 0; c < kWhole; c += kWidth)
    stepColumns<Cfg, kVectors>(h, c);
  for (int c = kWhole; c < kV; c += 16)
    stepColumns<Cfg, 1>(h, c);
}

template <class Cfg> static void stepHead(const DeltaStepHead &h) {
  if (h.tokens == 1 && Cfg::kValueDim % (16 * kTwoPassVectors) == 0)
    stepBlocks<Cfg, kTwoPassVectors>(h);
  else
    stepBlocks<Cfg, kStepVectors>(h);
}

/// beta and e^g of a head for every token; those of new ones are kept where the
/// state can replay.
template <class Cfg>
static void stepGates(const DeltaArgs &args, int head, int folded, int tokens,
                      float *beta, float *decay) {
  constexpr int kNext = DeltaDims<Cfg>::kGateStride;
  for (int t = 0; t < folded; ++t) {
    const float *ring = ringGates<Cfg>(args, t - folded, head);
    beta[t] = ring[0];
    decay[t] = ring[kNext];
  }
  for (int t = folded; t < tokens; ++t) {
    DeltaGates gates = deltaGates<Cfg>(args, head, t - folded);
    beta[t] = gates.beta;
    decay[t] = exp(gates.g);
    if constexpr (Cfg::kReplay) {
      float *ring = ringGates<Cfg>(args, t - folded, head);
      ring[0] = beta[t];
      ring[kNext] = decay[t];
    }
  }
}

/// This thread's value heads over `count` <= kMaxTokens new tokens, and with
/// replay over the pending ones before them.
template <class Cfg, int kMaxTokens>
static void stepHeads(const LatheContext *ctx, const DeltaArgs &args,
                      int count) {
  using D = DeltaDims<Cfg>;
  constexpr int kRows = kMaxTokens + (Cfg::kReplay ? LATHE_REPLAY_TOKENS : 0);
  constexpr DeltaStepScratch kAt = deltaStepScratch(D::shape(0), kMaxTokens);
  char *local = (char *)ctx->local;
  float *q = (float *)(local + kAt.q), *k = (float *)(local + kAt.k);
  float *v = (float *)(local + kAt.v);
  float beta[kRows], decay[kRows], dots[kRows];
  const int folded = Cfg::kReplay ? ctx->pending : 0, tokens = folded + count;
  if (tokens == 0)
    return;
  Range heads = shareOf(ctx, Cfg::kValueHeads);
  for (int head = heads.begin; head < heads.end; ++head) {
    if (head == heads.begin || head % D::kRatio == 0) {
      for (int i = 0; i < folded * D::kK; i += 16)
        store(q + i, splat(0.0f));
      loadQueries<Cfg>(args, head / D::kRatio, 0, count, q + folded * D::kK);
      loadKeys<Cfg>(args, head / D::kRatio, -folded, tokens, k);
      for (int t = folded; t < tokens; ++t) {
        f32x16 dot = splat(0.0f);
        for (int i = 0; i < D::kK; i += 16)
          dot = fma(load(k + t * D::kK + i), load(q + t * D::kK + i), dot);
        dots[t] = sum(dot);
      }
    }
    convolve<Cfg>(args, D::value(head), D::kV, -folded, tokens, v);
    stepGates<Cfg>(args, head, folded, tokens, beta, decay);
    stepHead<Cfg>({q, k, v, beta, decay, dots,
                   args.state + (i64)head * D::kK * D::kV,
                   (float *)(local + kAt.ahead), args.out + head * D::kV,
                   folded, tokens});
  }
}

/// Conv, norms, gates and the delta rule for ctx->tokens <= kMaxTokens tokens.
/// Needs deltaStepScratch(shape, kMaxTokens).bytes in ctx->local.
template <class Cfg, int kMaxTokens>
static void deltaStep(const LatheContext *ctx, const float *qkv, const float *a,
                      const float *b, const float *convWeight,
                      const float *aLog, const float *dtBias, float *convState,
                      float *state, float *out) {
  DeltaArgs args{qkv,    a,         b,     convWeight, aLog,
                 dtBias, convState, state, out,        ctx->position};
  stepHeads<Cfg, kMaxTokens>(ctx, args, ctx->tokens);
  // Rows of a ring that are written are never those that are read.
  if constexpr (Cfg::kReplay)
    advanceConvState<Cfg>(ctx, args, ctx->tokens, false);
  else
    advanceConvState<Cfg>(ctx, args, Cfg::kTaps - 1, true);
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_DELTA_STEP_H
