//===- matmul_weights.cuh - A operands of a prompt's linear ----*- CUDA -*-===//
//
// What both matmuls do with a row tile's packed weights: 16 columns of it
// become operand registers. NvFp4 block scales go into them, which is exact in
// f16. Int4 scales are not: those belong to the sums of a group.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATMUL_WEIGHTS_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATMUL_WEIGHTS_CUH

#include "compiler/device/cuda/weights.cuh"

namespace lathe {

/// Operands per k16 step: a float is two halves.
constexpr int partsOf(CudaPacking packing) {
  return packing.format == CudaFormat::Wide ? 2 : 1;
}
/// What the operands are times the weight.
constexpr float operandScale(CudaPacking packing) {
  return packing.format == CudaFormat::NvFp4 ? kFp4WeightScale : 1.0f;
}

/// 64 columns of a row tile, one lane's part. Dense weights stay where they
/// are; of 4-bit ones codes and scales are loaded, which may be long before
/// use.
template <CudaPacking kPacking> struct WeightColumns {
  const char *dense;
  Vec4 codes;
  Word2 scales;      ///< NvFp4: four steps' of row g, four of row g + 8
  const char *zeros; ///< Int4: of the first group

  LATHE_DEVICE_MEMBER WeightColumns(const char *codes, const char *scales,
                                    const char *zeros)
      : dense(codes), codes{}, scales{}, zeros(zeros) {
    if constexpr (kPacking.unitColumns() == 256)
      this->codes = ((const Vec4 *)codes)[lane()];
    if constexpr (kPacking.format == CudaFormat::NvFp4)
      this->scales = ((const Word2 *)scales)[lane() / 4];
  }
};

/// Dense: the operand from where the 32 columns' part starts.
LATHE_DEVICE void denseOperand(const char *part, int half, u32 (&a)[4]) {
  const Vec4 row0 = ((const Vec4 *)part)[lane()];
  const Vec4 row8 = ((const Vec4 *)part)[32 + lane()];
  a[0] = half ? row0.z : row0.x, a[1] = half ? row8.z : row8.x;
  a[2] = half ? row0.w : row0.y, a[3] = half ? row8.w : row8.y;
}

LATHE_DEVICE void fp4Operand(Vec4 words, Word2 scales, int k16, u32 (&a)[4]) {
  u32 row0[4], row8[4];
  fp4Pairs(k16 / 2 ? words.z : words.x, row0);
  fp4Pairs(k16 / 2 ? words.w : words.y, row8);
  const int shift = k16 / 2 * 16, half = k16 % 2;
  u32 s0 = halfMul(e4m3ToHalf((u16)(scales.x >> shift)), kFp4BlockFactor);
  u32 s8 = halfMul(e4m3ToHalf((u16)(scales.y >> shift)), kFp4BlockFactor);
  s0 = half ? upperTwice(s0) : lowerTwice(s0);
  s8 = half ? upperTwice(s8) : lowerTwice(s8);
  a[0] = halfMul(row0[2 * half], s0), a[1] = halfMul(row8[2 * half], s8);
  a[2] = halfMul(row0[2 * half + 1], s0);
  a[3] = halfMul(row8[2 * half + 1], s8);
}

template <CudaPacking kPacking>
LATHE_DEVICE void int4Operand(Vec4 words, const char *zeros, int k16,
                              u32 (&a)[4]) {
  const u32 word =
      k16 / 2 ? (k16 % 2 ? words.w : words.z) : (k16 % 2 ? words.y : words.x);
  u32 ones = kOnesOf8, sixteens = kSixteensOf8;
  if constexpr (kPacking.asymmetric) {
    const int group = kPacking.grain >= 64 ? 0 : k16 * 16 / kPacking.grain;
    u32 both = ((const u32 *)zeros)[group * 8 + lane() / 4];
    ones = lowerTwice(both);
    sixteens = sixteensOf(upperTwice(both));
  }
  int4Values(word, ones, sixteens, a);
}

/// Operands of the k16 step `k16` of these 64 columns.
template <CudaPacking kPacking>
LATHE_DEVICE void operandsOf(const WeightColumns<kPacking> &from, int k16,
                             u32 (&a)[partsOf(kPacking)][4]) {
  constexpr int kParts = partsOf(kPacking);
  if constexpr (kPacking.unitColumns() == 64) {
#pragma unroll
    for (int part = 0; part < kParts; ++part)
      denseOperand(from.dense + (k16 / 2 * kParts + part) * 1024, k16 % 2,
                   a[part]);
  } else if constexpr (kPacking.format == CudaFormat::NvFp4) {
    fp4Operand(from.codes, from.scales, k16, a[0]);
  } else {
    int4Operand<kPacking>(from.codes, from.zeros, k16, a[0]);
  }
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATMUL_WEIGHTS_CUH
