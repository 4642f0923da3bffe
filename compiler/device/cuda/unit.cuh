//===- unit.cuh - one packed unit times a few tokens -----------*- CUDA -*-===//
//
// The inner loop of a matvec: a warp multiplies a unit (weights.cuh) that lies
// in shared memory with the activations of up to eight tokens. A token is two
// operand columns, the upper and the lower f16 part of its values, so the
// result is as exact as f32 activations. Up to four tokens both parts fit into
// one operand (columns 0-3 and 4-7); with more, each part has its own.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_UNIT_CUH
#define LATHE_COMPILER_DEVICE_CUDA_UNIT_CUH

#include "compiler/device/cuda/weights.cuh"

namespace lathe {

/// Sums of 16 rows and kTokens tokens over a warp: d[p] as mma leaves it, for
/// operand p (with one operand, columns 4-7 are the lower parts).
template <int kTokens> struct TileSums {
  static constexpr int kOperands = kTokens > 4 ? 2 : 1;
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
  /// The two parts of every token together: column 2q + (i & 1) is a token,
  /// with one operand in the lanes q < 2 only.
  LATHE_DEVICE_MEMBER void joinParts() {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      d[0][i] += kOperands == 2 ? d[kOperands - 1][i] : shuffleXor(d[0][i], 2);
  }
};

/// The activations in shared memory: [block of 32][operand column][q] 8 slots.
template <int kTokens> struct OperandX {
  const char *lane; ///< this lane's slots of block 0

  LATHE_DEVICE_MEMBER explicit OperandX(const char *x) {
    int g = lathe::lane() / 4, q = lathe::lane() % 4;
    // Columns of no token may hold anything finite: read one that is there.
    int token = kTokens > 4 ? g : g % 4, part = kTokens > 4 ? 0 : g / 4;
    int column = part * kTokens + (token < kTokens ? token : 0);
    lane = x + column * 64 + q * 16;
  }
  LATHE_DEVICE_MEMBER Vec4 at(int block, int part) const {
    return *(const Vec4 *)(lane + (block * 2 + part) * kTokens * 64);
  }
};

/// One block of 32 columns: pairs of rows g and g + 8 against the activations.
template <int kTokens, int kHalf>
LATHE_DEVICE void multiplyHalf(TileSums<kTokens> &sums, const u32 (&row0)[4],
                               const u32 (&row8)[4], const Vec4 *x) {
  constexpr int p = 2 * kHalf;
  u32 a[4] = {row0[p], row8[p], row0[p + 1], row8[p + 1]};
#pragma unroll
  for (int i = 0; i < TileSums<kTokens>::kOperands; ++i)
    mma(sums.d[i], a, kHalf ? x[i].z : x[i].x, kHalf ? x[i].w : x[i].y);
}
template <int kTokens>
LATHE_DEVICE void multiplyBlock(TileSums<kTokens> &sums, const u32 (&row0)[4],
                                const u32 (&row8)[4], const Vec4 *x) {
  multiplyHalf<kTokens, 0>(sums, row0, row8, x);
  multiplyHalf<kTokens, 1>(sums, row0, row8, x);
}

template <int kTokens>
LATHE_DEVICE void loadX(const OperandX<kTokens> &x, int block, Vec4 *to) {
#pragma unroll
  for (int i = 0; i < TileSums<kTokens>::kOperands; ++i)
    to[i] = x.at(block, i);
}

LATHE_DEVICE void unpackVec(const Vec4 &v, u32 (&out)[4]) {
  out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
}

/// sums += unit * x, where `block` is the unit's first block of 32 columns.
template <CudaPacking kPacking, int kTokens>
LATHE_DEVICE void multiplyDense(TileSums<kTokens> &sums, const char *unit,
                                const OperandX<kTokens> &x, int block) {
  constexpr int kParts = kPacking.format == CudaFormat::Wide ? 2 : 1;
  const Vec4 *weights = (const Vec4 *)unit + lane();
#pragma unroll
  for (int b = 0; b < kPacking.unitColumns() / 32; ++b) {
    Vec4 operand[2];
    loadX(x, block + b, operand);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      u32 row0[4], row8[4];
      unpackVec(weights[((b * kParts + part) * 2) * 32], row0);
      unpackVec(weights[((b * kParts + part) * 2 + 1) * 32], row8);
      multiplyBlock(sums, row0, row8, operand);
    }
  }
}

template <CudaPacking kPacking, int kTokens>
LATHE_DEVICE void multiplyInt4(TileSums<kTokens> &sums, const char *unit,
                               const OperandX<kTokens> &x, int block) {
  constexpr int kGrain = kPacking.grain, kGroups = 256 / kGrain;
  const Vec4 *codes = (const Vec4 *)unit + lane();
  const u32 *scales = (const u32 *)(unit + 2048) + lane() / 4;
  // Two sums per group: an mma that adds to the one before it waits for it.
  TileSums<kTokens> group[2];
#pragma unroll
  for (int half = 0; half < 16; ++half) { // k16 steps
    Vec4 operand[2];
    loadX(x, block + half / 2, operand);
    Vec4 words = codes[half / 4 * 32];
    u32 ones0 = kOnesOf8, ones8 = kOnesOf8;
    u32 sixteens0 = kSixteensOf8, sixteens8 = kSixteensOf8;
    if constexpr (kPacking.asymmetric) {
      u32 zeros = scales[(kGroups + half * 16 / kGrain) * 8];
      ones0 = twice((u16)zeros), ones8 = twice((u16)(zeros >> 16));
      sixteens0 = sixteensOf(ones0), sixteens8 = sixteensOf(ones8);
    }
    u32 row0[4], row8[4];
    int4Pairs(half / 2 % 2 ? words.z : words.x, ones0, sixteens0, row0);
    int4Pairs(half / 2 % 2 ? words.w : words.y, ones8, sixteens8, row8);
    if (half * 16 % kGrain < 32)
      group[half % 2].clear();
    if (half % 2)
      multiplyHalf<kTokens, 1>(group[1], row0, row8, operand);
    else
      multiplyHalf<kTokens, 0>(group[0], row0, row8, operand);
    if ((half + 1) * 16 % kGrain == 0) {
      u32 s = scales[half * 16 / kGrain * 8];
      if (kGrain == 16) {
        sums.addScaled(group[half % 2], lowerHalf(s), upperHalf(s));
      } else {
        sums.addScaled(group[0], lowerHalf(s), upperHalf(s));
        sums.addScaled(group[1], lowerHalf(s), upperHalf(s));
      }
    }
  }
}

template <CudaPacking kPacking, int kTokens>
LATHE_DEVICE void multiplyFp4(TileSums<kTokens> &sums, const char *unit,
                              const OperandX<kTokens> &x, int block) {
  const Vec4 *codes = (const Vec4 *)unit + lane();
  const u32 *scales = (const u32 *)(unit + 2048) + lane() / 4 * 2;
#pragma unroll
  for (int j = 0; j < 4; ++j) { // 64 columns
    Vec4 words = codes[j * 32];
    u32 scales0 = scales[j * 16], scales8 = scales[j * 16 + 1];
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      Vec4 operand[2];
      loadX(x, block + 2 * j + b, operand);
      u32 row0[4], row8[4];
      fp4Pairs(b ? words.z : words.x, row0);
      fp4Pairs(b ? words.w : words.y, row8);
      u32 s0 = e4m3ToHalf((u16)(b ? scales0 >> 16 : scales0));
      u32 s8 = e4m3ToHalf((u16)(b ? scales8 >> 16 : scales8));
      TileSums<kTokens> part;
      part.clear();
      multiplyHalf<kTokens, 0>(part, row0, row8, operand);
      sums.addScaled(part, lowerHalf(s0), lowerHalf(s8));
      part.clear();
      multiplyHalf<kTokens, 1>(part, row0, row8, operand);
      sums.addScaled(part, upperHalf(s0), upperHalf(s8));
    }
  }
}

template <CudaPacking kPacking, int kTokens>
LATHE_DEVICE void multiplyUnit(TileSums<kTokens> &sums, const char *unit,
                               const OperandX<kTokens> &x, int block) {
  if constexpr (kPacking.format == CudaFormat::Int4)
    multiplyInt4<kPacking>(sums, unit, x, block);
  else if constexpr (kPacking.format == CudaFormat::NvFp4)
    multiplyFp4<kPacking>(sums, unit, x, block);
  else
    multiplyDense<kPacking>(sums, unit, x, block);
}

/// What the sums of a format must be multiplied with, the weight's own global
/// scale aside.
template <CudaPacking kPacking> LATHE_DEVICE constexpr float outputScale() {
  return (kPacking.format == CudaFormat::NvFp4 ? 1.0f / kFp4Scale : 1.0f) /
         kActivationScale;
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_UNIT_CUH
