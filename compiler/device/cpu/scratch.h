//===- scratch.h - scratch sizes of a kernel's prepared input ---*- C++ -*-===//
//
// Constants and sizes that the compiler needs to reserve scratch for a kernel,
// as plain constexpr functions: this file is device code and host code at once.
//
// A prepared input (activations.h) has K columns and T tokens, in one or more
// forms. Its parts follow one another, each rounded up to 64 bytes:
//
//   kF32            float  [K/16][T][16]
//   kInt15, kInt8   int8   [K/group][T][planes][group]   planes: 2 (hi, lo), 1
//                   float  [K/group][T]    scale
//                   int32  [K/group][T]    sum over the group
//                   int32  [K/16][T]       sum over 16 columns
//
// A row of 16-column vectors, [K/16][16] floats, follows when kF32 is absent;
// it is private to a thread, the forms are shared in prefill.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_SCRATCH_H
#define LATHE_COMPILER_DEVICE_CPU_SCRATCH_H

namespace lathe {

/// Forms of an input, a bit mask. Float weights read kF32, quantised weights
/// read kInt15 where present, else kInt8.
enum InputForm : int { kF32 = 1, kInt15 = 2, kInt8 = 4 };

/// Tokens that the matmul micro-kernel takes at once; shared forms are padded
/// to a multiple of it.
constexpr int kTokenBlock = 6;

constexpr long long scratchPart(long long bytes) {
  return (bytes + 63) / 64 * 64;
}

constexpr int paddedTokens(int tokens, bool shared) {
  return shared ? (tokens + kTokenBlock - 1) / kTokenBlock * kTokenBlock
                : tokens;
}

constexpr long long f32FormBytes(int columns, int tokens) {
  return scratchPart((columns + 15ll) / 16 * 64 * tokens);
}

constexpr long long intFormBytes(int columns, int tokens, int planes,
                                 int group) {
  long long groupBytes = scratchPart(4ll * (columns / group) * tokens);
  return scratchPart(1ll * columns * tokens * planes) + 2 * groupBytes +
         scratchPart(4ll * (columns / 16) * tokens);
}

constexpr long long formBytes(int columns, int tokens, int forms, int group) {
  return (forms & kF32 ? f32FormBytes(columns, tokens) : 0) +
         (forms & kInt15 ? intFormBytes(columns, tokens, 2, group) : 0) +
         (forms & kInt8 ? intFormBytes(columns, tokens, 1, group) : 0);
}

/// Bytes of LatheContext::shared that an Input<columns, tokens, ...> uses.
constexpr long long inputSharedBytes(int columns, int tokens, int forms,
                                     int group, bool shared) {
  return shared ? formBytes(columns, paddedTokens(tokens, true), forms, group)
                : 0;
}

/// Bytes of LatheContext::local that an Input<columns, tokens, ...> uses.
constexpr long long inputLocalBytes(int columns, int tokens, int forms,
                                    int group, bool shared) {
  return (shared ? 0 : formBytes(columns, tokens, forms, group)) +
         (forms & kF32 ? 0 : f32FormBytes(columns, 1));
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_SCRATCH_H
