//===- matvec_input.cuh - activations of a matvec in operand form ===//
//
// A warp multiplies with the same 256 columns of the activations all the time
// and keeps them in registers, as the B operand of mma: a token is two operand
// columns, the upper and the lower f16 part of its values, so that the result
// is as exact as with f32 activations. Up to four tokens both parts share one
// operand (columns 0-3 and 4-7); with more, the lower parts are an operand of
// their own and stay in shared memory.
//
// The printed prologue (norms, gates) gives floats per token and column; a warp
// evaluates it for its own columns and turns them round through a little shared
// memory of its own, so no warp waits for another.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATVEC_INPUT_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATVEC_INPUT_CUH

#include "compiler/device/cuda/linear_sizes.h"
#include "compiler/device/cuda/rms.cuh"
#include "compiler/device/cuda/weights.cuh"

namespace lathe {

/// A warp's slice. Slots are as in weights.cuh: b[s] is the operand of k16 step
/// s.
template <int kTokens> struct SliceX {
  static constexpr int kOperands = kTokens > 4 ? 2 : 1;
  static constexpr int kSteps = kMatvecSlice / 16;

  /// With two operands the last 64 columns stay where they were staged.
  static constexpr int kKept = kSteps - (kOperands == 2 ? 4 : 0);
  u32 b[kKept][2];
  /// The sums of operand columns 2q and 2q + 1 over each 128 columns, [group]
  /// [operand]: with two operands there is no register left for them.
  static constexpr bool kSumsShared = kOperands == 2;
  Float2 sums[kSumsShared ? 1 : 2];
  /// kTokens > 4: where this lane's slots of block 0 lie in shared memory.
  int lowerAt, lastAt;
  int sumsAt; ///< kSumsShared: likewise

  LATHE_DEVICE_MEMBER Float2 sumsOf(int group, int operand) const {
    const auto *shared = (const Float2 *)(sharedMemory() + sumsAt);
    return kSumsShared ? shared[(group * kOperands + operand) * 4]
                       : sums[group];
  }

  /// The lower parts of block `block` of 32 columns.
  LATHE_DEVICE_MEMBER Vec4 lowerOf(int block) const {
    return *(const Vec4 *)(sharedMemory() + lowerAt + block * kTokens * 64);
  }
  /// Operand kOperand of step kStep; `v` is lowerOf() its block.
  template <int kOperand>
  LATHE_DEVICE_MEMBER Word2 operand(int step, const Vec4 &v) const {
    if (kOperand == 0 && step < kKept)
      return {b[step][0], b[step][1]};
    const char *last =
        sharedMemory() + lastAt + (step >= kSteps - 2 ? kTokens * 64 : 0);
    const Vec4 both = kOperand == 0 ? *(const Vec4 *)last : v;
    return step % 2 ? Word2{both.z, both.w} : Word2{both.x, both.y};
  }

  /// Fills in the sums on tensor cores: a product with ones. They take
  /// kSumsBytes of `shared`.
  static constexpr int kSumsBytes = 2 * kOperands * 4 * 8;
  LATHE_DEVICE_MEMBER void addUp(char *shared) {
    Float2 *const mine = (Float2 *)shared + lane() % 4;
    sumsAt = (int)((char *)mine - sharedMemory());
    constexpr u32 kOne = 0x3c003c00;
    const u32 ones[4] = {kOne, kOne, kOne, kOne};
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      float d[2][4] = {};
#pragma unroll
      for (int s = group * 8; s < group * 8 + 8; ++s) {
        const Vec4 low = kOperands == 2 ? lowerOf(s / 2) : Vec4{};
        Word2 v = operand<0>(s, low);
        mma(d[0], ones, v.x, v.y);
        if constexpr (kOperands == 2) {
          v = operand<1>(s, low);
          mma(d[1], ones, v.x, v.y);
        }
      }
      if constexpr (!kSumsShared)
        sums[group] = {d[0][0], d[0][1]};
      else if (lane() < 4) // all rows are alike
        for (int i = 0; i < kOperands; ++i)
          mine[(group * kOperands + i) * 4] = {d[i][0], d[i][1]};
    }
    syncWarp();
  }
};

/// Turns a warp's share of the activations into a SliceX.
template <MatvecShape kShape> class MatvecInput {
  static constexpr int kTokens = kShape.tokens;
  static constexpr bool kBoth = kTokens <= 4; ///< parts in one operand
  static constexpr int kChunk = kTokens == 1 ? 128 : 64;
  static constexpr int kChunks = kMatvecSlice / kChunk;
  static constexpr int kFours = kChunk / 4 * kTokens; ///< of a chunk
  static constexpr int kEach = (kFours + 31) / 32;    ///< of a lane

public:
  /// `shared` is the block's room for inputs; `first` the first column of the
  /// block, `worker` the warp, `slice` its slice.
  LATHE_DEVICE_MEMBER MatvecInput(char *shared, int first, int worker,
                                  int slice)
      : lower(shared + worker * kShape.lowerBytes()),
        staging(shared + kShape.workers() * kShape.lowerBytes() +
                worker * kShape.stagingBytes()),
        begin(first + slice * kMatvecSlice) {}

  /// The slice of f(t, k), which gives columns [k, k + 4) as a Float4 and is
  /// asked for columns below kShape.columns only.
  template <class F> LATHE_DEVICE_MEMBER void fill(SliceX<kTokens> &x, F f) {
    x.lowerAt = (int)(lower - sharedMemory()) + lane() / 4 % kTokens * 64 +
                lane() % 4 * 16;
    x.lastAt = (int)(staging - sharedMemory()) + lane() / 4 % kTokens * 64 +
               lane() % 4 * 16;
    // The next chunk is under way while one is turned round, if registers
    // allow.
    constexpr int kAhead = kEach < 4 ? 1 : 0;
    Float4 v[1 + kAhead][kEach];
    if constexpr (kAhead)
      load(0, v[0], f);
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (c + kAhead < kChunks)
        load(c + kAhead, v[(c + kAhead) % (1 + kAhead)], f);
      store(c, v[c % (1 + kAhead)]);
      syncWarp();
      take(c, x);
      syncWarp();
    }
    x.addUp(staging + kShape.stagedBytes());
  }

private:
  template <class F>
  LATHE_DEVICE_MEMBER void load(int chunk, Float4 (&v)[kEach], F f) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int four = lane() + 32 * i;
      const int t = four / (kChunk / 4), k = columnOf(chunk, four);
      v[i] = Float4{0, 0, 0, 0};
      if (four < kFours && k < kShape.columns)
        v[i] = f(t, k) * kActivationScale;
    }
  }
  LATHE_DEVICE_MEMBER int columnOf(int chunk, int four) const {
    return begin + chunk * kChunk + four % (kChunk / 4) * 4;
  }

  /// [block of 32 of the chunk][operand column][q] 8 slots; the lower parts of
  /// many tokens alike, but where they stay.
  LATHE_DEVICE_MEMBER void store(int chunk, const Float4 (&v)[kEach]) const {
    constexpr int kColumns = kBoth ? 2 * kTokens : kTokens;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int four = lane() + 32 * i;
      if (kFours % 32 != 0 && four >= kFours)
        continue;
      const HalfParts parts(v[i]);
      const int t = four / (kChunk / 4), at = four % (kChunk / 4) * 4;
      const int block = at / 32, place = at % 16 * 4 + at % 32 / 16 * 8;
      char *to = staging + (block * kColumns + t) * 64 + place;
      char *low =
          kBoth ? to + kTokens * 64
                : lower + ((chunk * (kChunk / 32) + block) * kTokens + t) * 64 +
                      place;
      *(Word2 *)to = {parts.upper[0], parts.upper[1]};
      *(Word2 *)low = {parts.lower[0], parts.lower[1]};
    }
  }
  LATHE_DEVICE_MEMBER void take(int chunk, SliceX<kTokens> &x) const {
    constexpr int kColumns = kBoth ? 2 * kTokens : kTokens;
    const int g = lane() / 4, q = lane() % 4;
    // Columns of no token may hold anything finite: one that is there.
    const int token = kBoth ? g % 4 : g, part = kBoth ? g / 4 : 0;
    const int column = part * kTokens + (token < kTokens ? token : 0);
#pragma unroll
    for (int b = 0; b < kChunk / 32; ++b) {
      const Vec4 v =
          *(const Vec4 *)(staging + (b * kColumns + column) * 64 + q * 16);
      const int step = (chunk * (kChunk / 32) + b) * 2;
      if (step >= x.kKept)
        continue;
      x.b[step][0] = v.x, x.b[step][1] = v.y;
      x.b[step + 1][0] = v.z, x.b[step + 1][1] = v.w;
    }
  }

  char *const lower;
  char *const staging;
  const int begin; ///< the slice's first column
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATVEC_INPUT_CUH
