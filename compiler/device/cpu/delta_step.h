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
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_DELTA_STEP_H
#define LATHE_COMPILER_DEVICE_CPU_DELTA_STEP_H

#include "compiler/device/cpu/delta.h"

namespace lathe {

// Vectors of columns per block. With several tokens a block must fit into L1;
// a single one passes only twice, where whole rows stream best.
#ifdef __AVX512F__
constexpr int kStepVectors = 4, kSingleStepVectors = 8;
#else
constexpr int kStepVectors = 2, kSingleStepVectors = 2;
#endif

/// One value head's work: rows are dense, `out` has the activation's stride.
struct DeltaStepHead {
  const float *q, *k, *v;
  const float *beta, *decay, *dots; ///< per token; dots is k . q
  float *state, *out;
  int tokens;
};

/// The two products of a state's columns with a token's k and q.
template <int kVectors> struct StateReads {
  f32x16 k[kVectors], q[kVectors];
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

/// row <- decay * row + kx * d
template <int kVectors>
LATHE_INLINE void updateRow(float *p, f32x16 decay, float kx,
                            const f32x16 (&d)[kVectors],
                            f32x16 (&row)[kVectors]) {
#pragma unroll
  for (int j = 0; j < kVectors; ++j) {
    row[j] = fma(splat(kx), d[j], decay * load(p + j * 16));
    store(p + j * 16, row[j]);
  }
}

template <class Cfg, int kVectors>
static void stepColumns(const DeltaStepHead &h, int column) {
  using D = DeltaDims<Cfg>;
  float *state = h.state + column;
  StateReads<kVectors> reads = {};
  f32x16 row[kVectors], d[kVectors];
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
  for (int t = 0; t < h.tokens; ++t) {
    const float *k = h.k + t * D::kK;
    f32x16 decay = splat(h.decay[t]);
    for (int j = 0; j < kVectors; ++j) {
      f32x16 v = load(h.v + t * D::kV + column + j * 16);
      d[j] = h.beta[t] * fma(-decay, reads.k[j], v);
      store(h.out + (i64)t * D::kOutStride + column + j * 16,
            fma(decay, reads.q[j], h.dots[t] * d[j]));
    }
    if (t + 1 == h.tokens) {
      for (int i = 0; i < D::kK; ++i)
        updateRow(state + i * D::kV, decay, k[i], d, row);
      return;
    }
    const float *next = h.q + (t + 1) * D::kK;
    reads = {};
    for (int i = 0; i < D::kK; ++i) {
      updateRow(state + i * D::kV, decay, k[i], d, row);
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
  if (h.tokens == 1 && Cfg::kValueDim % (16 * kSingleStepVectors) == 0)
    stepBlocks<Cfg, kSingleStepVectors>(h);
  else
    stepBlocks<Cfg, kStepVectors>(h);
}

/// Conv, norms, gates and the delta rule for ctx->tokens <= kMaxTokens tokens.
/// Needs deltaStepScratch(shape, kMaxTokens).bytes in ctx->local.
template <class Cfg, int kMaxTokens>
static void deltaStep(const LatheContext *ctx, const float *qkv, const float *a,
                      const float *b, const float *convWeight,
                      const float *aLog, const float *dtBias, float *convState,
                      float *state, float *out) {
  using D = DeltaDims<Cfg>;
  constexpr DeltaStepScratch kAt = deltaStepScratch(D::shape(0), kMaxTokens);
  DeltaArgs args{qkv, a, b, convWeight, aLog, dtBias, convState, state, out};
  char *local = (char *)ctx->local;
  float *q = (float *)(local + kAt.q), *k = (float *)(local + kAt.k);
  float *v = (float *)(local + kAt.v);
  float beta[kMaxTokens], decay[kMaxTokens], dots[kMaxTokens];
  int tokens = ctx->tokens;
  Range heads = shareOf(ctx, Cfg::kValueHeads);
  for (int head = heads.begin; head < heads.end; ++head) {
    if (head == heads.begin || head % D::kRatio == 0) {
      loadKeyHead<Cfg>(args, head / D::kRatio, 0, tokens, q, k);
      for (int t = 0; t < tokens; ++t) {
        f32x16 dot = splat(0.0f);
        for (int i = 0; i < D::kK; i += 16)
          dot = fma(load(k + t * D::kK + i), load(q + t * D::kK + i), dot);
        dots[t] = sum(dot);
      }
    }
    convolve<Cfg>(args, D::value(head), D::kV, 0, tokens, v);
    for (int t = 0; t < tokens; ++t) {
      DeltaGates gates = deltaGates<Cfg>(args, head, t);
      beta[t] = gates.beta;
      decay[t] = exp(gates.g);
    }
    stepHead<Cfg>({q, k, v, beta, decay, dots,
                   state + (i64)head * D::kK * D::kV, out + head * D::kV,
                   tokens});
  }
  advanceConvState<Cfg>(ctx, args);
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_DELTA_STEP_H
