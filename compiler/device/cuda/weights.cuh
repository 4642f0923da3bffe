//===- weights.cuh - packed weights to tensor-core operands ----*- CUDA -*-===//
//
// Weights are the A operand of mma m16n8k16: lane t = 4g + q holds rows g and
// g + 8 of a tile. Inside every 32 columns a lane owns eight "slots" per row,
//
//   column of slot s = 16 (s / 4) + 4q + s % 4,
//
// so that one k16 step is one half of the 32 columns (a scale block of NvFp4)
// and a lane's slots of the activations are two runs of four. A pair of slots
// (2p, 2p + 1) is one operand register. Units (CudaWeights.h) hold, per lane:
//
//   Half   [2 blocks of 32][row g, g + 8][lane] 8 halves
//   Wide   [2 blocks][upper, lower part][row g, g + 8][lane] 8 halves
//   4-bit  [4 pairs of blocks][lane] four words of eight codes, then scales:
//          Int4   a word per k16 step, both rows in it; scales [group][g] two
//                 halves, rows g and g + 8; zero points alike, as 1024 + zero
//          NvFp4  words {block 0: row g, row g + 8, block 1: row g, row g + 8};
//                 scales [4 pairs of blocks][g] 4 e4m3 of row g, 4 of row g + 8
//
// Codes inside a word lie so that few instructions give halves. Int4: the pair
// p of a step is in byte p of each half of the word, row g in its lower nibble,
// row g + 8 in its upper. NvFp4 without a conversion instruction: signBitOf.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_WEIGHTS_CUH
#define LATHE_COMPILER_DEVICE_CUDA_WEIGHTS_CUH

#include "compiler/device/cuda/prelude.cuh"
#include "runtime/base/CudaWeights.h"

namespace lathe {

/// Activations enter tensor cores as f16 after this factor: up to 1e6 fits,
/// also of a row whose norm is applied later (matvec_norm.cuh), where 1e4 is
/// much. What is lost below is far under the resolution of the sums.
constexpr float kActivationScale = 1.0f / 16;

#if LATHE_HAS_E2M1
/// What fp4Pairs leaves the values multiplied with.
constexpr float kFp4Scale = 1.0f;
/// Factor on a block scale that keeps products with codes exact in f16.
constexpr u32 kFp4BlockFactor = 0x3c003c00; // 1
constexpr float kFp4WeightScale = 1.0f;
#else
// The three magnitude bits, put where f16 has its lowest exponent bits and its
// highest mantissa bit, mean the value times 2^-14, subnormal 0.5 included.
constexpr float kFp4Scale = 1.0f / 16384;
constexpr u32 kFp4BlockFactor = 0x58005800; // 2^7: 448 still fits
constexpr float kFp4WeightScale = 1.0f / 128;

// Per 16 bits: pair p has its magnitude at 9 - 3p, its sign at 15, 12, 14, 13:
// the first two reach their places together, with one shift and one mask.
LATHE_DEVICE int signBitOf(int pair) { return 0xdecf >> (4 * pair) & 15; }
#endif

struct alignas(8) Word2 {
  u32 x, y;
};

/// Four values as f16, and what f16 left of them.
struct HalfParts {
  u32 upper[2], lower[2];
  LATHE_DEVICE_MEMBER explicit HalfParts(Float4 v) {
    upper[0] = packHalf(v.x, v.y), upper[1] = packHalf(v.z, v.w);
    lower[0] = packHalf(v.x - lowerHalf(upper[0]), v.y - upperHalf(upper[0]));
    lower[1] = packHalf(v.z - lowerHalf(upper[1]), v.w - upperHalf(upper[1]));
  }
};

/// Where the code of slot s of a lane lies in its word.
LATHE_DEVICE u32 placeFp4(u32 code, int slot) {
#if LATHE_HAS_E2M1
  return code << (4 * slot);
#else
  int pair = slot / 2;
  u32 half = (code >> 3) << signBitOf(pair) | (code & 7) << (9 - 3 * pair);
  return half << (16 * (slot & 1));
#endif
}
LATHE_DEVICE u32 codeOfFp4(u32 word, int slot) {
#if LATHE_HAS_E2M1
  return word >> (4 * slot) & 15;
#else
  int pair = slot / 2;
  u32 half = word >> (16 * (slot & 1));
  return (half >> signBitOf(pair) & 1) << 3 | (half >> (9 - 3 * pair) & 7);
#endif
}

/// The four operand registers of a word of NvFp4 codes, times kFp4Scale.
LATHE_DEVICE void fp4Pairs(u32 word, u32 (&pairs)[4]) {
#if LATHE_HAS_E2M1
  for (int p = 0; p < 4; ++p)
    pairs[p] = e2m1ToHalf(word, p);
#else
  // A product moves magnitude and sign by what each needs; where else it leaves
  // them, sums do not carry into bits that are kept.
  pairs[0] = word & 0x8e008e00;
  pairs[1] = word << 3 & 0x8e008e00;
  pairs[2] = (word & 0x40384038) * (1 << 6 | 1 << 1) & 0x8e008e00;
  pairs[3] = (word & 0x20072007) * (1 << 9 | 1 << 2) & 0x8e008e00;
#endif
}

/// The bit of a step's word at which the code of slot s (0 to 3) lies.
LATHE_DEVICE int placeOfInt4(int slot, int upperRow) {
  return 16 * (slot % 2) + 8 * (slot / 2) + 4 * upperRow;
}

/// The operand of a k16 step of Int4 as the codes themselves, which as halves
/// are subnormal: times 2^-24 in row g, and 16 times that in row g + 8.
LATHE_DEVICE void int4Codes(u32 word, u32 (&a)[4]) {
  u32 next = word >> 8;
  a[0] = word & 0x000f000f, a[1] = word & 0x00f000f0;
  a[2] = next & 0x000f000f, a[3] = next & 0x00f000f0;
}
/// What int4Codes leaves the values multiplied with, and undoes for row g + 8.
constexpr float kInt4Scale = 1.0f / (1 << 24), kInt4UpperRow = 1.0f / 16;

/// The operand of a k16 step of Int4: code - zero, exact. `ones` is 1024 + zero
/// of row g twice, `sixteens` -(64 + zero) of row g + 8 twice, as halves.
LATHE_DEVICE void int4Values(u32 word, u32 ones, u32 sixteens, u32 (&a)[4]) {
  constexpr u32 kMagic = 0x64006400;     // 1024
  constexpr u32 kSixteenth = 0x2c002c00; // 1/16
  u32 next = word >> 8;
  u32 minusOnes = ones ^ 0x80008000;
  a[0] = halfAdd(maskOr(word, 0x000f000f, kMagic), minusOnes);
  a[1] = halfFma(maskOr(word, 0x00f000f0, kMagic), kSixteenth, sixteens);
  a[2] = halfAdd(maskOr(next, 0x000f000f, kMagic), minusOnes);
  a[3] = halfFma(maskOr(next, 0x00f000f0, kMagic), kSixteenth, sixteens);
}
/// Zero point 8 of symmetric codes.
constexpr u32 kOnesOf8 = 0x64086408, kSixteensOf8 = 0xd480d480;
/// -(64 + zero) from 1024 + zero.
LATHE_DEVICE u32 sixteensOf(u32 ones) {
  return halfAdd(0x63806380, ones ^ 0x80008000); // 960 - (1024 + zero)
}

/// One weight as a number, for gathering rows of an embedding.
template <CudaFormat kFormat, int kGrain, bool kAsymmetric, int kColumns>
LATHE_DEVICE float weightAt(const char *packed, int row, int column) {
  constexpr CudaPacking kPacking{kFormat, kGrain, kAsymmetric};
  constexpr int kUnitColumns = kPacking.unitColumns();
  const char *unit =
      packed + kCudaWeightHeader +
      ((i64)(row / 16) * kPacking.units(kColumns) + column / kUnitColumns) *
          kPacking.unitBytes();
  int inUnit = column % kUnitColumns, block = inUnit / 32, k = inUnit % 32;
  int slot = k / 16 * 4 + k % 4, q = k % 16 / 4;
  int g = row % 8, lower = row % 16 / 8, at = 4 * g + q;
  if constexpr (kFormat == CudaFormat::Half) {
    const u16 *h = (const u16 *)unit + ((block * 2 + lower) * 32 + at) * 8;
    return halfToFloat(h[slot]);
  } else if constexpr (kFormat == CudaFormat::Wide) {
    const u16 *h = (const u16 *)unit + ((block * 4 + lower) * 32 + at) * 8;
    return halfToFloat(h[slot]) + halfToFloat(h[2 * 32 * 8 + slot]);
  } else {
    const u32 *words =
        (const u32 *)unit + block / 2 * 128 + at * 4 + block % 2 * 2;
    if constexpr (kFormat == CudaFormat::Int4) {
      int group = inUnit / kGrain;
      const u16 *scales = (const u16 *)(unit + 2048) + group * 16 + g * 2;
      float zero = kAsymmetric
                       ? halfToFloat(scales[256 / kGrain * 16 + lower]) - 1024
                       : 8.0f;
      int code = words[slot / 4] >> placeOfInt4(slot % 4, lower) & 15;
      return halfToFloat(scales[lower]) * ((float)code - zero);
    } else {
      u32 code = codeOfFp4(words[lower], slot);
      float magnitude = halfToFloat((u16)((code & 7) << 9)) * 16384.0f;
      u8 scale = ((const u8 *)unit)[2048 + block / 2 * 64 + g * 8 + lower * 4 +
                                    inUnit % 64 / 16];
      return (code & 8 ? -magnitude : magnitude) *
             lowerHalf(e4m3ToHalf(scale)) * *(const float *)packed;
    }
  }
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_WEIGHTS_CUH
