//===- unit.cuh - one packed unit times a few tokens -----------*- CUDA -*-===//
//
// The inner loop of a matvec: a warp multiplies a unit (weights.cuh) that lies
// in shared memory with its slice of the activations (matvec_input.cuh).
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_UNIT_CUH
#define LATHE_COMPILER_DEVICE_CUDA_UNIT_CUH

#include "compiler/device/cuda/matvec_input.cuh"

namespace lathe {

/// Sums of 16 rows and all tokens over a warp: d[p] as mma leaves it, for
/// operand p (of a joint one, columns 4-7 are the lower parts).
template <MatvecOperands kX> struct TileSums {
  static constexpr int kOperands = kX.count();
  float d[kOperands][4];

  LATHE_DEVICE_MEMBER void clear() {
    for (int p = 0; p < kOperands; ++p)
      for (int i = 0; i < 4; ++i)
        d[p][i] = 0.0f;
  }
  /// this += s * other, with s per row: g, then g + 8.
  LATHE_DEVICE_MEMBER void addScaled(const TileSums &other, float s0,
                                     float s1) {
#pragma unroll
    for (int p = 0; p < kOperands; ++p) {
      d[p][0] = fma(s0, other.d[p][0], d[p][0]);
      d[p][1] = fma(s0, other.d[p][1], d[p][1]);
      d[p][2] = fma(s1, other.d[p][2], d[p][2]);
      d[p][3] = fma(s1, other.d[p][3], d[p][3]);
    }
  }
  /// The parts of every token together: column 2q + (i & 1) is a token, of a
  /// joint operand in the lanes q < 2 only.
  LATHE_DEVICE_MEMBER void joinParts() {
    if constexpr (kX.parts == 2)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (kX.tokens > 1 || i % 2 == 0)
          d[0][i] +=
              kOperands == 2 ? d[kOperands - 1][i] : shuffleXor(d[0][i], 2);
  }
};

/// to = a * (step `step` of x) + from; `low` is x.lowerOf() the step's block.
template <MatvecOperands kX>
LATHE_DEVICE void multiplyStep(TileSums<kX> &to, const u32 (&a)[4],
                               const SliceX<kX> &x, int step, const Vec4 &low,
                               const TileSums<kX> &from) {
  Word2 b = x.template operand<0>(step, low);
  mma(to.d[0], a, b.x, b.y, from.d[0][0], from.d[0][1], from.d[0][2],
      from.d[0][3]);
  if constexpr (kX.count() == 2) {
    b = x.template operand<1>(step, low);
    mma(to.d[1], a, b.x, b.y, from.d[1][0], from.d[1][1], from.d[1][2],
        from.d[1][3]);
  }
}
/// The lower parts that multiplyStep needs, if any.
template <MatvecOperands kX>
LATHE_DEVICE Vec4 lowerFor(const SliceX<kX> &x, int step) {
  if constexpr (kX.count() == 2)
    return x.lowerOf(step / 2);
  return Vec4{};
}

LATHE_DEVICE void unpackVec(const Vec4 &v, u32 (&out)[4]) {
  out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
}

/// sums += unit * x for the unit that is kUnit-th in the slice.
template <CudaPacking kPacking, int kUnit, MatvecOperands kX>
LATHE_DEVICE void multiplyDense(TileSums<kX> &sums, const char *unit,
                                const SliceX<kX> &x) {
  constexpr int kParts = kPacking.format == CudaFormat::Wide ? 2 : 1;
  const Vec4 *weights = (const Vec4 *)unit + lane();
#pragma unroll
  for (int b = 0; b < 2; ++b) {
    const int step = kUnit * 4 + b * 2;
    const Vec4 low = lowerFor(x, step);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      u32 row0[4], row8[4];
      unpackVec(weights[((b * kParts + part) * 2) * 32], row0);
      unpackVec(weights[((b * kParts + part) * 2 + 1) * 32], row8);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const u32 a[4] = {row0[2 * h], row8[2 * h], row0[2 * h + 1],
                          row8[2 * h + 1]};
        multiplyStep(sums, a, x, step + h, low, sums);
      }
    }
  }
}

/// Where the sums of a group of 128 start: what the zero points take away.
template <MatvecOperands kX>
LATHE_DEVICE TileSums<kX> zeroPoints(const SliceX<kX> &x, int group,
                                     float zero0, float zero8) {
  TileSums<kX> start;
#pragma unroll
  for (int p = 0; p < start.kOperands; ++p) {
    const Float2 sums = x.sumsOf(group, p);
    start.d[p][0] = sums.x * (-kInt4Scale * zero0);
    start.d[p][1] = sums.y * (-kInt4Scale * zero0);
    start.d[p][2] = sums.x * (-kInt4Scale / kInt4UpperRow * zero8);
    start.d[p][3] = sums.y * (-kInt4Scale / kInt4UpperRow * zero8);
  }
  return start;
}

/// Groups of 128 columns: codes go into the tensor cores as they are.
template <CudaPacking kPacking, MatvecOperands kX>
LATHE_DEVICE void multiplyInt4Groups(TileSums<kX> &sums, const char *unit,
                                     const SliceX<kX> &x) {
  // The two groups take turns, since an mma that adds to the one before waits
  // for it; with two operands these do.
  constexpr int kTurns = kX.count() == 2 ? 1 : 2;
  const Vec4 *codes = (const Vec4 *)unit + lane();
  const u32 *scales = (const u32 *)(unit + 2048) + lane() / 4;
#pragma unroll
  for (int first = 0; first < 2; first += kTurns) {
    TileSums<kX> group[kTurns];
#pragma unroll
    for (int i = 0; i < kTurns; ++i) {
      const u32 zeros = kPacking.asymmetric ? scales[(2 + first + i) * 8] : 0;
      group[i] = kPacking.asymmetric
                     ? zeroPoints(x, first + i, lowerHalf(zeros) - 1024.0f,
                                  upperHalf(zeros) - 1024.0f)
                     : zeroPoints(x, first + i, 8.0f, 8.0f);
    }
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      u32 words[kTurns][4];
#pragma unroll
      for (int i = 0; i < kTurns; ++i)
        unpackVec(codes[((first + i) * 2 + j) * 32], words[i]);
#pragma unroll
      for (int s = 0; s < 4; ++s)
#pragma unroll
        for (int i = 0; i < kTurns; ++i) {
          const int step = (first + i) * 8 + j * 4 + s;
          u32 a[4];
          int4Codes(words[i][s], a);
          multiplyStep(group[i], a, x, step, lowerFor(x, step), group[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < kTurns; ++i) {
      const u32 s = scales[(first + i) * 8];
      sums.addScaled(group[i], lowerHalf(s), upperHalf(s) * kInt4UpperRow);
    }
  }
}

/// Smaller groups: codes become values first.
template <CudaPacking kPacking, MatvecOperands kX>
LATHE_DEVICE void multiplyInt4Values(TileSums<kX> &sums, const char *unit,
                                     const SliceX<kX> &x) {
  constexpr int kGrain = kPacking.grain, kGroups = 256 / kGrain;
  const Vec4 *codes = (const Vec4 *)unit + lane();
  const u32 *scales = (const u32 *)(unit + 2048) + lane() / 4;
  TileSums<kX> group;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    u32 words[4];
    unpackVec(codes[j * 32], words);
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      const int step = j * 4 + s;
      u32 ones = kOnesOf8, sixteens = kSixteensOf8;
      if constexpr (kPacking.asymmetric) {
        const u32 zeros = scales[(kGroups + step * 16 / kGrain) * 8];
        ones = twice((u16)zeros);
        sixteens = sixteensOf(twice((u16)(zeros >> 16)));
      }
      u32 a[4];
      int4Values(words[s], ones, sixteens, a);
      if (step * 16 % kGrain == 0)
        group.clear();
      multiplyStep(group, a, x, step, lowerFor(x, step), group);
      if ((step + 1) * 16 % kGrain == 0) {
        const u32 scale = scales[step * 16 / kGrain * 8];
        // As multiplyInt4Groups leaves its sums.
        sums.addScaled(group, lowerHalf(scale) * kInt4Scale,
                       upperHalf(scale) * kInt4Scale);
      }
    }
  }
}

template <CudaPacking kPacking, MatvecOperands kX>
LATHE_DEVICE void multiplyFp4(TileSums<kX> &sums, const char *unit,
                              const SliceX<kX> &x) {
  const Vec4 *codes = (const Vec4 *)unit + lane();
  const u32 *scales = (const u32 *)(unit + 2048) + lane() / 4 * 2;
  TileSums<kX> zero;
  zero.clear();
#pragma unroll
  for (int j = 0; j < 4; ++j) { // 64 columns
    const Vec4 words = codes[j * 32];
    const u32 scales0 = scales[j * 16], scales8 = scales[j * 16 + 1];
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      u32 row0[4], row8[4];
      fp4Pairs(b ? words.z : words.x, row0);
      fp4Pairs(b ? words.w : words.y, row8);
      const u32 s0 = e4m3ToHalf((u16)(b ? scales0 >> 16 : scales0));
      const u32 s8 = e4m3ToHalf((u16)(b ? scales8 >> 16 : scales8));
      const Vec4 low = lowerFor(x, j * 4 + b * 2);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const u32 a[4] = {row0[2 * h], row8[2 * h], row0[2 * h + 1],
                          row8[2 * h + 1]};
        TileSums<kX> part;
        multiplyStep(part, a, x, j * 4 + b * 2 + h, low, zero);
        sums.addScaled(part, h ? upperHalf(s0) : lowerHalf(s0),
                       h ? upperHalf(s8) : lowerHalf(s8));
      }
    }
  }
}

template <CudaPacking kPacking, int kUnit, MatvecOperands kX>
LATHE_DEVICE void multiplyUnit(TileSums<kX> &sums, const char *unit,
                               const SliceX<kX> &x) {
  if constexpr (kPacking.format == CudaFormat::Int4 && kPacking.grain == 128)
    multiplyInt4Groups<kPacking>(sums, unit, x);
  else if constexpr (kPacking.format == CudaFormat::Int4)
    multiplyInt4Values<kPacking>(sums, unit, x);
  else if constexpr (kPacking.format == CudaFormat::NvFp4)
    multiplyFp4<kPacking>(sums, unit, x);
  else
    multiplyDense<kPacking, kUnit>(sums, unit, x);
}

/// What the sums of a format must be multiplied with, the weight's own global
/// scale aside.
template <CudaPacking kPacking> LATHE_DEVICE constexpr float outputScale() {
  return (kPacking.format == CudaFormat::NvFp4  ? 1.0f / kFp4Scale
          : kPacking.format == CudaFormat::Int4 ? 1.0f / kInt4Scale
                                                : 1.0f) /
         kActivationScale;
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_UNIT_CUH
