//===- pack.cuh - checkpoint weights to packed units -----------*- CUDA -*-===//
//
// Rewrites a weight from its canonical form (runtime/base/Weight.h), uploaded
// piece by piece, into the layout of weights.cuh. A piece is a whole number of
// row tiles; a thread makes one 32-bit word of the result at a time.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_PACK_CUH
#define LATHE_COMPILER_DEVICE_CUDA_PACK_CUH

#include "compiler/device/cuda/weights.cuh"
#include "runtime/base/CudaAbi.h"

namespace lathe {

/// Four codes of a row from a column that is a multiple of four on.
LATHE_DEVICE u32 fourCodes(const LathePack &p, int row, int column,
                           u32 padding) {
  if (row < p.rows && column < p.columns)
    return *(const u16 *)(p.data + ((i64)row * p.columns + column) / 2);
  return padding;
}

/// Rows g and g + 8 of a scale-like array as a pair of halves.
template <class At>
LATHE_DEVICE u32 packPair(const LathePack &p, int row, int column, At at) {
  u32 pair[2] = {0, 0};
  for (int i = 0; i < 2; ++i)
    if (row + 8 * i < p.rows && column < p.columns)
      pair[i] =
          at((i64)(row + 8 * i) * (p.columns / p.group) + column / p.group);
  return pair[0] | pair[1] << 16;
}

LATHE_DEVICE u32 packInt4Word(const LathePack &p, int tile, int unit,
                              int word) {
  const int row = tile * 16, column = unit * 256;
  if (word < 512) {
    // Vector 32 j + lane has the words of steps 4j to 4j + 3.
    const int g = word % 128 / 16, q = word % 16 / 4;
    const int k = column + (word / 128 * 4 + word % 4) * 16 + 4 * q;
    u32 codes = 0;
    for (int upper = 0; upper < 2; ++upper) {
      const u32 four = fourCodes(p, row + g + 8 * upper, k, 0x8888);
      for (int s = 0; s < 4; ++s)
        codes |= (four >> (4 * s) & 15) << placeOfInt4(s, upper);
    }
    return codes;
  }
  const int scales = 256 / p.grain * 8, i = (word - 512) % scales;
  const int g = row + i % 8, k = column + i / 8 * p.grain;
  if (word - 512 < scales)
    return packPair(p, g, k, [&](i64 at) { return (u32)p.scales[at]; });
  return packPair(p, g, k, [&](i64 at) {
    return (u32)floatToHalf(1024.0f + (float)p.zeros[at]);
  });
}

LATHE_DEVICE u32 packFp4Word(const LathePack &p, int tile, int unit, int word) {
  const int row = tile * 16, column = unit * 256;
  if (word < 512) {
    const int r = row + word % 128 / 16 + word % 2 * 8;
    const int k =
        column + (word / 128 * 2 + word % 4 / 2) * 32 + word % 16 / 4 * 4;
    u32 codes = 0;
    for (int half = 0; half < 2; ++half) {
      const u32 four = fourCodes(p, r, k + 16 * half, 0);
      for (int s = 0; s < 4; ++s)
        codes |= placeFp4(four >> (4 * s) & 15, half * 4 + s);
    }
    return codes;
  }
  const int i = word - 512, r = row + i % 16 / 2 + i % 2 * 8;
  u32 scales = 0;
  for (int b = 0; b < 4; ++b) {
    int k = column + i / 16 * 64 + b * 16;
    if (r < p.rows && k < p.columns)
      scales |= (u32)p.blockScales[((i64)r * p.columns + k) / 16] << (8 * b);
  }
  return scales;
}

/// The value of a dense weight.
LATHE_DEVICE float denseAt(const LathePack &p, int row, int column) {
  if (row >= p.rows || column >= p.columns)
    return 0.0f;
  i64 at = (i64)row * p.columns + column;
  if (p.source == LATHE_PACK_F32)
    return ((const float *)p.data)[at];
  u16 half = ((const u16 *)p.data)[at];
  return p.source == LATHE_PACK_F16 ? halfToFloat(half) : bf16ToFloat(half);
}

template <int kParts>
LATHE_DEVICE u32 packDenseWord(const LathePack &p, int tile, int unit,
                               int word) {
  const int vector = word / 4, at = vector % 32, rest = vector / 32;
  const int row = tile * 16 + at / 4 + rest % 2 * 8;
  const int part = rest / 2 % kParts, block = rest / 2 / kParts;
  const int pair = word % 4; // slots 2 pair, 2 pair + 1
  const int column =
      unit * 64 + block * 32 + pair / 2 * 16 + at % 4 * 4 + pair % 2 * 2;
  float v0 = denseAt(p, row, column), v1 = denseAt(p, row, column + 1);
  u32 upper = packHalf(v0, v1);
  return part == 0 ? upper
                   : packHalf(v0 - lowerHalf(upper), v1 - upperHalf(upper));
}

template <class Word>
LATHE_DEVICE void packWords(const LathePack &p, CudaPacking packing,
                            Word word) {
  const int words = packing.unitBytes() / 4;
  const int units = packing.units(p.columns);
  const i64 all = (i64)((p.rows + 15) / 16) * units * words;
  for (i64 i = (i64)blockX() * threadCount() + threadX(); i < all;
       i += (i64)gridX() * threadCount()) {
    int unit = (int)(i / words);
    ((u32 *)p.packed)[i] =
        word(p, unit / units, unit % units, (int)(i % words));
  }
}

LATHE_DEVICE void packWeight(const LathePack &p) {
  switch (p.format) {
  case (int)CudaFormat::Half:
    return packWords(p, {CudaFormat::Half, 128, false}, packDenseWord<1>);
  case (int)CudaFormat::Wide:
    return packWords(p, {CudaFormat::Wide, 128, false}, packDenseWord<2>);
  case (int)CudaFormat::Int4:
    return packWords(p, {CudaFormat::Int4, p.grain, p.asymmetric != 0},
                     packInt4Word);
  case (int)CudaFormat::NvFp4:
    return packWords(p, {CudaFormat::NvFp4, 128, false}, packFp4Word);
  }
}

/// A number that looks random and depends on `i` alone (the finaliser of
/// SplitMix64: Steele, Lea, Flood 2014).
LATHE_DEVICE u64 mixBits(u64 z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

/// Packed units of random codes with one scale, for benchmarks without a
/// checkpoint. Padding is random too: the activations there are zero.
LATHE_DEVICE void fillWeight(const LathePack &p) {
  auto random = [&](const LathePack &, int tile, int unit, int word) {
    u64 bits = mixBits(p.seed + ((u64)tile * 4096 + unit) * 4096 + word);
    if (p.format == (int)CudaFormat::Half ||
        p.format == (int)CudaFormat::Wide) {
      // Uniform in [-scale, scale); the lower parts are zero.
      bool lower = p.format == (int)CudaFormat::Wide && word / 256 % 2;
      float v0 = (float)(int)(bits & 0xffff) / 32768.0f - 1.0f;
      float v1 = (float)(int)(bits >> 16 & 0xffff) / 32768.0f - 1.0f;
      return lower ? 0u : packHalf(p.scale * v0, p.scale * v1);
    }
    if (word < 512)
      return (u32)bits;
    if (p.format == (int)CudaFormat::NvFp4)
      return 0x38383838u; // e4m3 1
    bool zeros = word - 512 >= 256 / p.grain * 8;
    return zeros ? kOnesOf8 : twice(floatToHalf(p.scale));
  };
  packWords(p, {(CudaFormat)p.format, p.grain, p.asymmetric != 0}, random);
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_PACK_CUH
