//===- activations.h - the prepared input of linear kernels -----*- C++ -*-===//
//
// A kernel with linear anchors first evaluates its prologue into an Input: the
// activations of all tokens in the forms that its weights read (scratch.h
// gives the layout). Integer forms carry one scale per token and group of
// columns:
//
//   kInt8    a = q * scale, q in [-127, 127]
//   kInt15   a = (128 * hi + lo) * scale, hi in [-127, 127], lo in [-64, 63]:
//            two byte dot products with more precision than BF16
//
// In decode (Shared = false) each thread prepares all tokens for itself, which
// is cheaper than a barrier. In prefill the team splits the tokens, and
// ready() is a barrier.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_ACTIVATIONS_H
#define LATHE_COMPILER_DEVICE_CPU_ACTIVATIONS_H

#include "compiler/device/cpu/dot.h"
#include "compiler/device/cpu/norms.h"
#include "compiler/device/cpu/scratch.h"

#define LATHE_MEMBER inline __attribute__((always_inline))

namespace lathe {

/// One integer form: Planes bytes per value, groups of Group columns, rows for
/// Tokens tokens.
template <int Columns, int Tokens, int Planes, int Group> struct IntForm {
  static_assert(Columns % Group == 0 && Group % 16 == 0);
  static constexpr int kPlanes = Planes;
  static constexpr int kGroup = Group;
  static constexpr int kTokenBytes = Planes * Group;
  static constexpr int kLimit = Planes == 2 ? 127 * 128 + 63 : 127;

  static constexpr i64 kScales = scratchPart(1ll * Columns * Tokens * Planes);
  static constexpr i64 kGroupSums =
      kScales + scratchPart(4ll * (Columns / Group) * Tokens);
  static constexpr i64 kSums =
      kGroupSums + scratchPart(4ll * (Columns / Group) * Tokens);

  u8 *base;

  /// The first plane at column k of token t; the second is Group bytes on.
  LATHE_MEMBER i8 *values(int k, int t) const {
    return (i8 *)base + (i64)(k / Group * Tokens + t) * kTokenBytes + k % Group;
  }
  LATHE_MEMBER float &scale(int k, int t) const {
    return ((float *)(base + kScales))[k / Group * Tokens + t];
  }
  LATHE_MEMBER int &groupSum(int k, int t) const {
    return ((int *)(base + kGroupSums))[k / Group * Tokens + t];
  }
  LATHE_MEMBER int &sum16(int k, int t) const {
    return ((int *)(base + kSums))[k / 16 * Tokens + t];
  }

  /// Sum of Count values from column k; Count divides Group.
  template <int Count> LATHE_MEMBER int sumOver(int k, int t) const {
    if constexpr (Count == Group)
      return groupSum(k, t);
    int s = 0;
#pragma unroll
    for (int i = 0; i < Count; i += 16)
      s += sum16(k + i, t);
    return s;
  }

  /// Quantises one token; x has `stride` floats from vector to vector.
  LATHE_MEMBER void quantize(int t, const float *x, int stride) const {
    for (int k = 0; k < Columns; k += Group)
      quantizeGroup(k, t, x + (i64)(k / 16) * stride, stride);
  }

  LATHE_MEMBER void quantizeGroup(int k, int t, const float *x,
                                  int stride) const {
    // Magnitudes compare as integers, and a NaN is above all: it becomes the
    // scale and reaches the output.
    i32x16 top = (i32x16)0;
    for (int i = 0; i < Group / 16; ++i)
      top = __builtin_elementwise_max(
          top,
          __builtin_bit_cast(i32x16, load(x + (i64)i * stride)) & 0x7fffffff);
    const float max = __builtin_bit_cast(float, (int)__builtin_reduce_max(top));
    // A group of nothing but (almost) zeros must not divide by zero.
    const bool empty = max <= 1e-30f;
    const float inverse = empty ? 0.0f : (float)kLimit / max;
    scale(k, t) = empty ? 0.0f : max * (1.0f / kLimit);
    int total = 0;
    for (int i = 0; i < Group / 16; ++i) {
      i32x16 q = roundToInt(load(x + (i64)i * stride) * inverse);
      int part = __builtin_reduce_add(q);
      sum16(k + 16 * i, t) = part;
      total += part;
      i8 *out = values(k + 16 * i, t);
      if constexpr (Planes == 2) {
        i32x16 hi = (q + 64) >> 7;
        *(i8x16 *)out = __builtin_convertvector(hi, i8x16);
        *(i8x16 *)(out + Group) = __builtin_convertvector(q - (hi << 7), i8x16);
      } else {
        *(i8x16 *)out = __builtin_convertvector(q, i8x16);
      }
    }
    groupSum(k, t) = total;
  }

  /// The nearest integer, clamped to the range; a bit trick, so that no input,
  /// not even a NaN, is undefined.
  LATHE_INLINE i32x16 roundToInt(f32x16 x) {
    const float magic = 12582912.0f; // 1.5 * 2^23
    i32x16 q =
        __builtin_bit_cast(i32x16, x + magic) - __builtin_bit_cast(int, magic);
    return __builtin_elementwise_min(
        __builtin_elementwise_max(q, (i32x16)-kLimit), (i32x16)kLimit);
  }

  /// Zeroes tokens [begin, end): the matmul computes them and drops them.
  LATHE_MEMBER void clear(int begin, int end) const {
    for (int t = begin; t < end; ++t)
      for (int k = 0; k < Columns; k += 16) {
        *(i8x16 *)values(k, t) = (i8x16)(signed char)0;
        if constexpr (Planes == 2)
          *(i8x16 *)(values(k, t) + Group) = (i8x16)(signed char)0;
        scale(k, t) = 0.0f;
        groupSum(k, t) = sum16(k, t) = 0;
      }
  }
};

/// The prepared input: K columns, at most MaxTokens tokens (exactly that many
/// when not Shared), in `Forms`; integer forms have groups of Group columns.
template <int K, int MaxTokens, int Forms, int Group, bool Shared> class Input {
public:
  static constexpr int kColumns = K;
  static constexpr int kPadded = strideOf(K);
  static constexpr int kMaxTokens = MaxTokens;
  static constexpr int kRows = paddedTokens(MaxTokens, Shared);
  static constexpr bool kShared = Shared;
  static constexpr bool kHasF32 = (Forms & kF32) != 0;
  static constexpr bool kHasInt = (Forms & (kInt15 | kInt8)) != 0;

  static constexpr i64 sharedBytes() {
    return inputSharedBytes(K, MaxTokens, Forms, Group, Shared);
  }
  static constexpr i64 localBytes() {
    return inputLocalBytes(K, MaxTokens, Forms, Group, Shared);
  }

  LATHE_MEMBER explicit Input(const LatheContext *ctx)
      : ctx(ctx), forms((u8 *)(Shared ? ctx->shared : ctx->local)),
        row((float *)((u8 *)ctx->local +
                      (Shared ? 0 : formBytes(K, kRows, Forms, Group)))) {}

  LATHE_MEMBER int tokens() const { return Shared ? ctx->tokens : MaxTokens; }

  /// This thread's tokens: begin(), begin() + step(), ... before end().
  LATHE_MEMBER int begin() const {
    return Shared ? shareOf(ctx, ctx->tokens).begin : 0;
  }
  LATHE_MEMBER int end() const {
    return Shared ? shareOf(ctx, ctx->tokens).end : MaxTokens;
  }
  LATHE_MEMBER int step() const { return 1; }

  /// Sets columns [Begin, Begin + Width) of token t to f(0), f(16), ... The
  /// segments of a token are filled from left to right; the last one, which
  /// ends at K, completes the token.
  template <int Begin, int Width, class Fn>
  LATHE_MEMBER void fill(int t, Fn f) const {
    static_assert(Begin % 16 == 0 && Begin + Width <= K);
    static_assert(Width % 16 == 0 || Begin + Width == K);
    for (int k = 0; k < Width; k += 16)
      store(source(t) + (i64)((Begin + k) / 16) * kSourceStride, f(k));
    if constexpr (Begin + Width == K)
      complete(t);
  }

  LATHE_MEMBER void ready() const {
    if constexpr (Shared) {
      const int count = ctx->tokens;
      if (ctx->thread == ctx->threads - 1)
        clear(count, paddedTokens(count, true));
      barrier(ctx);
    }
  }

  /// Sixteen columns from k, a multiple of 16, of token t; the next token's
  /// follow.
  LATHE_MEMBER const float *f32(int k, int t) const {
    static_assert(kHasF32);
    return (const float *)forms + (i64)(k / 16 * kRows + t) * 16;
  }

  LATHE_MEMBER auto int15() const {
    constexpr i64 offset = kHasF32 ? f32FormBytes(K, kRows) : 0;
    return IntForm<K, kRows, 2, Group>{forms + offset};
  }
  LATHE_MEMBER auto int8() const {
    constexpr i64 offset = formBytes(K, kRows, Forms & ~kInt8, Group);
    return IntForm<K, kRows, 1, Group>{forms + offset};
  }
  /// The form that quantised weights read.
  LATHE_MEMBER auto integers() const {
    static_assert(kHasInt);
    if constexpr ((Forms & kInt15) != 0)
      return int15();
    else
      return int8();
  }

private:
  static constexpr int kSourceStride = kHasF32 ? kRows * 16 : 16;

  LATHE_MEMBER float *source(int t) const {
    return kHasF32 ? (float *)forms + t * 16 : row;
  }

  LATHE_MEMBER void complete(int t) const {
    if constexpr ((Forms & kInt15) != 0)
      int15().quantize(t, source(t), kSourceStride);
    if constexpr ((Forms & kInt8) != 0)
      int8().quantize(t, source(t), kSourceStride);
  }

  LATHE_MEMBER void clear(int begin, int end) const {
    if constexpr (kHasF32)
      for (int t = begin; t < end; ++t)
        for (int k = 0; k < kPadded; k += 16)
          store((float *)f32(k, t), splat(0.0f));
    if constexpr ((Forms & kInt15) != 0)
      int15().clear(begin, end);
    if constexpr ((Forms & kInt8) != 0)
      int8().clear(begin, end);
  }

  const LatheContext *ctx;
  u8 *forms;
  float *row; // the token in work when there is no kF32 form
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_ACTIVATIONS_H
