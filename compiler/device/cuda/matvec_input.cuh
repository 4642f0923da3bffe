//===- matvec_input.cuh - activations of a matvec in operand form ===//
//
// A warp multiplies with the same 256 columns of the activations all the time
// and keeps them in registers, as the B operand of mma. With one f16 part per
// value a token is an operand column. With two it has another for what f16 left
// of its values, so that the result is as exact as with f32 activations: up to
// four tokens both share one operand (columns 0-3 and 4-7); with more, the
// lower parts are an operand of their own and stay in shared memory.
//
// The printed prologue (norms, gates) gives floats per token and column; a warp
// evaluates it for its own columns and turns them round through a little shared
// memory of its own, so no warp waits for another but for the exact norm of a
// row. Twins, two blocks that have the same columns, prepare half of the tokens
// each, since reading and converting them takes longer than waiting for the
// other.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATVEC_INPUT_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATVEC_INPUT_CUH

#include "compiler/device/cuda/matvec_norm.cuh"
#include "compiler/device/cuda/rms.cuh"
#include "compiler/device/cuda/weights.cuh"

namespace lathe {

/// A warp's slice. Slots are as in weights.cuh: b[s] is the operand of k16 step
/// s.
template <MatvecOperands kX> struct SliceX {
  static constexpr int kTokens = kX.tokens, kOperands = kX.count();
  static constexpr int kSteps = kMatvecSlice / 16;

  /// With two operands the last 96 columns stay where they were staged.
  static constexpr int kKept = kSteps - (kOperands == 2 ? 6 : 0);
  u32 b[kKept][2];
  /// The sums of operand columns 2q and 2q + 1 over each 128 columns, [group]
  /// [operand]: with two operands there is no register left for them.
  static constexpr bool kSumsShared = kOperands == 2;
  Float2 sums[kSumsShared ? 1 : 2];
  /// Two operands: where this lane's slots of block 0 lie in shared memory;
  /// those of the last 96 columns come behind the lower parts.
  int lowerAt;
  static constexpr int kLastAt = kMatvecSlice / 32 * kTokens * 64;
  static constexpr int kStagedBytes = (kSteps - kKept) / 2 * kTokens * 64;

  LATHE_DEVICE_MEMBER Float2 sumsOf(int group, int operand) const {
    return kSumsShared ? sharedSums()[(group * kOperands + operand) * 4]
                       : sums[group];
  }
  /// Behind those: found anew each time, which takes no register.
  LATHE_DEVICE_MEMBER Float2 *sharedSums() const {
    const int at = lowerAt - lane() / 4 % kTokens * 64 - lane() % 4 * 16;
    return (Float2 *)(sharedMemory() + at + kLastAt + kStagedBytes) +
           lane() % 4;
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
        sharedMemory() + lowerAt + kLastAt + (step - kKept) / 2 * kTokens * 64;
    const Vec4 both = kOperand == 0 ? *(const Vec4 *)last : v;
    return step % 2 ? Word2{both.z, both.w} : Word2{both.x, both.y};
  }

  static constexpr int kSumsBytes = 2 * kOperands * 4 * 8;

  /// Fills in the sums on tensor cores: a product with ones.
  LATHE_DEVICE_MEMBER void addUp() {
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
          sharedSums()[(group * kOperands + i) * 4] = {d[i][0], d[i][1]};
    }
    syncWarp();
  }
};

/// Turns a warp's share of the activations into a SliceX.
template <MatvecShape kShape> class MatvecInput {
  static constexpr int kTokens = kShape.tokens;
  static constexpr MatvecOperands kX = kShape.operands();
  static constexpr bool kTwins = kShape.twins == 2;
  static constexpr int kOwn = kShape.ownTokens();
  using Lanes = SliceLanes<kOwn>;
  static constexpr int kChunk = Lanes::kChunk, kChunks = Lanes::kChunks;
  static constexpr int kEach = Lanes::kEach;
  /// Operand columns that are staged.
  static constexpr int kColumns = (kX.joint() ? 2 : 1) * kTokens;
  /// Loads that are under way at once, as many as registers allow: of so many
  /// chunks, and in each so many of a lane's kEach. Two operands leave none.
  static constexpr bool kAtOnce = kX.count() == 1;
  static constexpr int kSome = kAtOnce && kOwn > 4 ? 2 : kEach;
  template <class Norm> using Scales = SliceNorm<kShape, Norm, kSome>;
  /// A norm over groups comes with a gate, which is loaded, too.
  template <class Norm> static constexpr int someChunks() {
    const bool gated = Norm::kGroup != 0 && !Scales<Norm>::kRow;
    return kOwn > (gated ? 2 : 4) ? 2 : kChunks;
  }
  static_assert(SliceX<kX>::kStagedBytes == kShape.stagedBytes());
  static_assert(!kTwins || (kAtOnce && kShape.parts == 1));

public:
  /// `shared` is the block's shared memory without rings; `first` the first
  /// column of the block, `worker` the warp.
  LATHE_DEVICE_MEMBER MatvecInput(char *shared, int first, int worker)
      : lower(shared + kShape.warpsAt() + worker * kShape.warpBytes()),
        staging(lower + kShape.lowerBytes()),
        twin((Barrier *)(shared + kShape.twinBarriersAt()) + worker),
        first(first), group(kShape.groupOf(worker)),
        slice(kShape.sliceOf(worker)),
        firstToken(kTwins ? blockX() % 2 * kOwn : 0) {}

  /// The slice of f(t, k, raw), which gives columns [k, k + 4) as a Float4 and
  /// is asked for columns below kShape.columns only. `raw` it sets to what the
  /// norm is over. All workers call together; they meet in `team` and have
  /// `partial` for a float per slice of the row and token.
  template <class Norm, class Team, class F>
  LATHE_DEVICE_MEMBER void fill(SliceX<kX> &x, Norm norm, Team team,
                                float *partial, F f) {
    x.lowerAt = (int)(lower - sharedMemory()) + lane() / 4 % kTokens * 64 +
                lane() % 4 * 16;
    if constexpr (kTwins)
      if (lane() == 0)
        barrierExpect(twin, twinBytes<Norm>());
    if constexpr (kAtOnce)
      fillAtOnce(x, norm, team, partial, f);
    else
      fillInSteps(x, norm, team, partial, f);
    if constexpr (kTwins) {
      syncWarp();
      barrierWaitTwin(twin, 0);
#pragma unroll
      for (int c = 0; c < kChunks; ++c)
        take(c, 0, x);
      syncWarp();
    }
    x.addUp();
  }

private:
  template <class Norm, class Team, class F>
  LATHE_DEVICE_MEMBER void fillAtOnce(SliceX<kX> &x, Norm norm, Team team,
                                      float *partial, F f) const {
#pragma unroll 1
    for (int i = 0; i < kEach; i += kSome) {
      Scales<Norm> scales{i};
#pragma unroll
      for (int c = 0; c < kChunks; c += someChunks<Norm>())
        fillSome(x, c, i, scales, norm, team, partial, f);
      if constexpr (Scales<Norm>::kLater)
        leaveRows(scales, partial + group * (kTokens * kShape.rowSlices()), f);
    }
  }
  /// Chunks from `c` on, of a lane's values those from `first` on.
  template <class Norm, class Team, class F>
  LATHE_DEVICE_MEMBER void fillSome(SliceX<kX> &x, int c, int first,
                                    Scales<Norm> &scales, Norm norm, Team team,
                                    float *partial, F f) const {
    constexpr int kSomeChunks = someChunks<Norm>();
    Float4 v[kSomeChunks][kSome];
#pragma unroll
    for (int chunk = 0; chunk < kSomeChunks; ++chunk)
#pragma unroll
      for (int i = 0; i < kSome; ++i) {
        Float4 raw;
        v[chunk][i] = at<Norm>(begin(), c + chunk, first + i, raw, f);
        scales.add(i, c + chunk, raw);
      }
    if constexpr (Scales<Norm>::kRow && !Scales<Norm>::kLater)
      finishRows(scales, norm, team, partial, f);
    else if constexpr (!Scales<Norm>::kRow && Norm::kGroup != 0)
      scales.finishGroups(norm.eps, c, c + kSomeChunks);
#pragma unroll
    for (int chunk = 0; chunk < kSomeChunks; ++chunk) {
#pragma unroll
      for (int i = 0; i < kSome; ++i)
        store(c + chunk, first + i, v[chunk][i], scales.scale(i, c + chunk));
      if constexpr (!kTwins) {
        syncWarp();
        take(c + chunk, first, x);
        syncWarp();
      }
    }
  }

  /// A chunk at a time; loads a second time what the norm is over.
  template <class Norm, class Team, class F>
  LATHE_DEVICE_MEMBER void fillInSteps(SliceX<kX> &x, Norm norm, Team team,
                                       float *partial, F f) const {
    Scales<Norm> scales{0};
    if constexpr (Scales<Norm>::kRow) {
      addSquares(begin(), 0, kChunks, scales, f);
      finishRows(scales, norm, team, partial, f);
    }
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if constexpr (!Scales<Norm>::kRow && Norm::kGroup != 0)
        if (c % 2 == 0) {
          addSquares(begin(), c, c + 2, scales, f);
          scales.finishGroups(norm.eps, c, c + 2);
        }
      Float4 v[kEach], raw;
#pragma unroll
      for (int i = 0; i < kEach; ++i)
        v[i] = at<Norm>(begin(), c, i, raw, f);
#pragma unroll
      for (int i = 0; i < kEach; ++i)
        store(c, i, v[i], scales.scale(i, c));
      syncWarp();
      take(c, 0, x);
      syncWarp();
    }
  }

  LATHE_DEVICE_MEMBER int begin() const { return first + slice * kMatvecSlice; }
  /// Four columns of f, and what the norm is over.
  template <class Norm, class F>
  LATHE_DEVICE_MEMBER Float4 at(int begin, int c, int i, Float4 &raw,
                                F f) const {
    // Without a condition the weights of a norm are loaded once for all tokens
    // (an odd number has one); where more than those wait in registers, that is
    // too much for them.
    constexpr bool kFull =
        (Norm::kGroup == 0 || Scales<Norm>::kRow) &&
        kShape.columns == kShape.split * kShape.splitColumns();
    const int k = begin + Lanes::column(c);
    raw = Float4{0, 0, 0, 0};
    if (!has(i) || (!kFull && k >= kShape.columns))
      return raw;
    return f(firstToken + Lanes::token(i), k, raw);
  }
  /// Whether that token exists: the second of twins may have fewer.
  LATHE_DEVICE_MEMBER bool has(int i) const {
    return Lanes::has(i) && (kTokens % kShape.twins == 0 ||
                             firstToken + Lanes::token(i) < kTokens);
  }
  template <class Norm, class F>
  LATHE_DEVICE_MEMBER void addSquares(int begin, int first, int last,
                                      Scales<Norm> &scales, F f) const {
#pragma unroll
    for (int c = first; c < last; ++c)
#pragma unroll
      for (int i = 0; i < kSome; ++i) {
        Float4 raw;
        at<Norm>(begin, c, scales.first + i, raw, f);
        scales.add(i, c, raw);
      }
  }

  /// The slice's sums against those of the whole row.
  template <class Norm, class Team, class F>
  LATHE_DEVICE_MEMBER void finishRows(Scales<Norm> &scales, Norm norm,
                                      Team team, float *partial, F f) const {
    if (group == 0)
      leaveRows(scales, partial, f);
    team.sync();
    scales.finishRows(norm.eps, partial);
  }
  /// What the warps of a group find of the whole row.
  template <class Norm, class F>
  LATHE_DEVICE_MEMBER void leaveRows(const Scales<Norm> &scales, float *partial,
                                     F f) const {
    eachSlice([&](int s, bool own) {
      auto leave = [&](int token, float sum) {
        if (firstToken + token < kTokens)
          put((u32 *)partial + (firstToken + token) * kShape.rowSlices() + s,
              floatBits(sum));
      };
      if (own)
        return scales.leave(leave);
      Scales<Norm> other{scales.first};
      addSquares(s * kMatvecSlice, 0, kChunks, other, f);
      other.leave(leave);
    });
  }
  /// Calls f(slice of the row, whether it is the warp's own) for those whose
  /// sums the warp finds: of the columns that other blocks have, only these.
  template <class F> LATHE_DEVICE_MEMBER void eachSlice(F f) const {
    const int own = first / kMatvecSlice;
    if (own + slice < kShape.rowSlices())
      f(own + slice, true);
    if constexpr (kShape.split > 1)
      for (int s = slice; s < kShape.rowSlices(); s += kShape.slices())
        if (s < own || s >= own + kShape.slices())
          f(s, false);
  }

  /// Here and at the twin.
  template <class T> LATHE_DEVICE_MEMBER void put(T *to, T value) const {
    *to = value;
    if constexpr (kTwins)
      storeTwin(to, value, twin);
  }
  /// What the same warp of the twin puts here: its tokens' values, and per
  /// token the sums of this slice and of those that other blocks have.
  template <class Norm> LATHE_DEVICE_MEMBER u32 twinBytes() const {
    const int tokens = firstToken > 0 ? kOwn : kTokens - kOwn;
    int sums = 0;
    if constexpr (Scales<Norm>::kLater)
      eachSlice([&](int, bool) { ++sums; });
    return tokens * (kMatvecSlice * 2 + sums * 4);
  }
  /// [block of 32 of the chunk][operand column][q] 8 slots; the lower parts of
  /// two operands alike, but where they stay.
  LATHE_DEVICE_MEMBER void store(int chunk, int i, Float4 v,
                                 float scale) const {
    if (!has(i))
      return;
    const HalfParts parts(v * (scale * kActivationScale));
    const int t = firstToken + Lanes::token(i), at = Lanes::column(0);
    const int block = at / 32, place = at % 16 * 4 + at % 32 / 16 * 8;
    char *to = staging + (placeOf(chunk, block) * kColumns + t) * 64 + place;
    put((u64 *)to, parts.upper[0] | (u64)parts.upper[1] << 32);
    if constexpr (kX.parts == 2) {
      char *low =
          kX.joint()
              ? to + kTokens * 64
              : lower + ((chunk * (kChunk / 32) + block) * kTokens + t) * 64 +
                    place;
      *(Word2 *)low = {parts.lower[0], parts.lower[1]};
    }
  }
  /// Where block `block` of a chunk is staged: of twins, all have a place.
  /// Three are enough that the last three blocks of a slice with two operands
  /// stay.
  LATHE_DEVICE_MEMBER static int placeOf(int chunk, int block) {
    if (kX.count() == 1)
      return (kTwins ? chunk * (kChunk / 32) : 0) + block;
    return chunk == kChunks - 2 && block == 1 ? 0 : 1 + block;
  }
  /// A lane takes what is staged of its token, if that is one of those whose
  /// values a lane has from `first` on.
  LATHE_DEVICE_MEMBER void take(int chunk, int first, SliceX<kX> &x) const {
    const int g = lane() / 4, q = lane() % 4;
    // Columns of no token may hold anything finite: one that is there.
    const int token = kX.joint() ? g % 4 : g, part = kX.joint() ? g / 4 : 0;
    const int column = part * kTokens + (token < kTokens ? token : 0);
    if (kSome < kEach && column / (2 * kSome) != first / kSome)
      return;
#pragma unroll
    for (int b = 0; b < kChunk / 32; ++b) {
      const Vec4 v = *(
          const Vec4 *)(staging + (placeOf(chunk, b) * kColumns + column) * 64 +
                        q * 16);
      const int step = (chunk * (kChunk / 32) + b) * 2;
      if (step >= x.kKept)
        continue;
      x.b[step][0] = v.x, x.b[step][1] = v.y;
      x.b[step + 1][0] = v.z, x.b[step + 1][1] = v.w;
    }
  }

  char *const lower;
  char *const staging;
  Barrier *const twin;
  const int first, group, slice;
  const int firstToken; ///< of those that the block prepares
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATVEC_INPUT_CUH
