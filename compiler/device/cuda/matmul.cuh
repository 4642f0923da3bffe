//===- matmul.cuh - a fused matrix times many vectors ----------*- CUDA -*-===//
//
// The second stage of a prompt's linear: a block multiplies 128 rows of one
// segment with 128 tokens, 64 columns at a time, from a ring that cp.async
// fills with packed weights, their scales and f16 activations. Eight warps:
// four pairs of row tiles by two groups of 64 tokens. Weights become f16 in
// registers, on their way to the tensor cores.
//
// NvFp4 block scales go into the weights, which is exact in f16. Int4 scales
// are not: a group has sums of its own, which are scaled in f32.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATMUL_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATMUL_CUH

#include "compiler/device/cuda/matvec.cuh"

namespace lathe {

template <MatmulShape kShape, class S> class Matmul {
  static constexpr CudaPacking kPacking = S::kPacking;
  static constexpr int kCode = matmulCodeBytes(kPacking);
  static constexpr int kScale = matmulScaleBytes(kPacking);
  static constexpr int kTile = kCode + kScale;
  static constexpr int kTiles = kMatmulRows / 16; ///< of weights, per block
  static constexpr int kPlanes = kShape.planes;
  static constexpr bool kInt4 = kPacking.format == CudaFormat::Int4;
  static constexpr int kSteps = kShape.paddedColumns() / kMatmulStep;
  static_assert(kTile <= kShape.tileBytes);

public:
  /// Row blocks of this segment.
  static constexpr int kBlocks = ceilDiv(S::kTiles * S::kWeights, kTiles);

  LATHE_DEVICE_MEMBER Matmul(const LatheLaunch &ctx, const S &segment,
                             int block)
      : ctx(ctx), segment(segment), shared(sharedMemory()),
        firstTile(block * (kTiles / S::kWeights)),
        firstToken(blockY() * kMatmulTokens), warpRow(warp() / 2),
        warpToken(warp() % 2 * 64) {}

  LATHE_DEVICE_MEMBER void run() {
    for (int m = 0; m < 2; ++m)
      for (int n = 0; n < 8; ++n)
        for (int i = 0; i < 4; ++i)
          sums[m][n][i] = 0.0f;
    for (int s = 0; s < kShape.stages - 1; ++s) {
      if (s < kSteps)
        fetch(s);
      copyCommit();
    }
    for (int step = 0; step < kSteps; ++step) {
      copyWait<kShape.stages - 2>();
      syncThreads();
      if (step + kShape.stages - 1 < kSteps)
        fetch(step + kShape.stages - 1);
      copyCommit();
      multiply(shared + step % kShape.stages * kShape.stageBytes(), step);
    }
    store();
  }

private:
  /// The row tile and weight of place `i` in the block: with two weights, warps
  /// get a gate tile and then the up tile of the same rows.
  LATHE_DEVICE_MEMBER int tileOf(int i) const {
    return S::kWeights == 2 ? firstTile + i / 2 : firstTile + i;
  }

  /// Where 64 columns of a tile start: its codes, and its scales.
  LATHE_DEVICE_MEMBER void locate(int i, int step, const char *&codes,
                                  const char *&scales) const {
    constexpr int kPerUnit = kPacking.unitColumns() / kMatmulStep;
    const char *weight = segment.weights[0];
    if constexpr (S::kWeights == 2)
      weight = i % 2 ? segment.weights[1] : weight;
    const char *unit =
        weight + kCudaWeightHeader +
        ((i64)tileOf(i) * kPacking.units(kShape.columns) + step / kPerUnit) *
            kPacking.unitBytes();
    int part = step % kPerUnit;
    codes = unit + part * kCode;
    scales = unit + 2048;
    if constexpr (kPacking.format == CudaFormat::NvFp4)
      scales += part * 64;
    if constexpr (kInt4)
      scales += part * 64 / kPacking.grain * 32;
  }

  /// A unit whose columns end before the padded width does not exist.
  LATHE_DEVICE_MEMBER bool exists(int i, int step) const {
    constexpr int kPerUnit = kPacking.unitColumns() / kMatmulStep;
    return tileOf(i) < S::kTiles &&
           step / kPerUnit < kPacking.units(kShape.columns);
  }

  LATHE_DEVICE_MEMBER void fetch(int step) const {
    char *stage = shared + step % kShape.stages * kShape.stageBytes();
    constexpr int kVectors = kTile / 16;
    for (int v = threadX(); v < kTiles * kVectors; v += kMatmulThreads) {
      int i = v / kVectors, at = v % kVectors * 16;
      const char *codes, *scales;
      locate(i, step, codes, scales);
      const char *from = at < kCode ? codes + at : scales + (at - kCode);
      if constexpr (kInt4 && kPacking.asymmetric)
        if (at >= kCode + kScale / 2) // zero points stand behind all scales
          from = scales + 256 / kPacking.grain * 32 + (at - kCode - kScale / 2);
      bool valid = exists(i, step);
      copyAsync16(stage + i * kTile + at, valid ? from : segment.weights[0],
                  valid);
    }
    char *x = stage + kTiles * kShape.tileBytes;
    for (int v = threadX(); v < kPlanes * kMatmulTokens * 8;
         v += kMatmulThreads) {
      int plane = v / (kMatmulTokens * 8), t = v / 8 % kMatmulTokens, c = v % 8;
      const char *from =
          ctx.scratch +
          (((i64)(firstToken + t) * kPlanes + plane) * kShape.paddedColumns() +
           step * kMatmulStep + c * 8) *
              2;
      bool valid = firstToken + t < ctx.step->tokens;
      copyAsync16(x + plane * kMatmulTokens * 128 + t * 128 +
                      (c ^ (t & 7)) * 16,
                  valid ? from : ctx.scratch, valid);
    }
  }

  /// Operand registers of 16 columns of tile `m` of this warp, scaled if NvFp4.
  LATHE_DEVICE_MEMBER void weightsOf(const char *stage, int m, int k16,
                                     int part, u32 (&a)[4]) const {
    const char *tile = stage + (warpRow * 2 + m) * kTile;
    int g = lane() / 4, half = k16 % 2;
    u32 row0[4], row8[4];
    if constexpr (kPacking.format == CudaFormat::Half ||
                  kPacking.format == CudaFormat::Wide) {
      constexpr int kParts = kPacking.format == CudaFormat::Wide ? 2 : 1;
      const Vec4 *w =
          (const Vec4 *)tile + ((k16 / 2 * kParts + part) * 2) * 32 + lane();
      unpackVec(w[0], row0);
      unpackVec(w[32], row8);
    } else {
      Vec4 words = ((const Vec4 *)tile)[lane()];
      if constexpr (kInt4) {
        const u32 word =
            k16 / 2 ? (half ? words.w : words.z) : (half ? words.y : words.x);
        u32 ones = kOnesOf8, sixteens = kSixteensOf8;
        if constexpr (kPacking.asymmetric) {
          u32 zeros =
              ((const u32 *)(tile + kCode + kScale / 2))[groupOf(k16) * 8 + g];
          ones = twice((u16)zeros);
          sixteens = sixteensOf(twice((u16)(zeros >> 16)));
        }
        return int4Values(word, ones, sixteens, a);
      }
      fp4Pairs(k16 / 2 ? words.z : words.x, row0);
      fp4Pairs(k16 / 2 ? words.w : words.y, row8);
      scaleFp4(tile, k16, g, row0, row8);
    }
    a[0] = row0[2 * half], a[1] = row8[2 * half];
    a[2] = row0[2 * half + 1], a[3] = row8[2 * half + 1];
  }

  LATHE_DEVICE_MEMBER void scaleFp4(const char *tile, int k16, int g,
                                    u32 (&row0)[4], u32 (&row8)[4]) const {
    const u8 *scales = (const u8 *)(tile + kCode) + g * 8 + k16;
    u32 both = halfMul(e4m3ToHalf(scales[0] | scales[4] << 8), kFp4BlockFactor);
    u32 s0 = twice((u16)both), s8 = twice((u16)(both >> 16));
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      row0[p] = halfMul(row0[p], s0);
      row8[p] = halfMul(row8[p], s8);
    }
  }

  /// The group of a k16 step among those of its 64 columns.
  static constexpr LATHE_DEVICE_MEMBER int groupOf(int k16) {
    return kPacking.grain >= 64 ? 0 : k16 * 16 / kPacking.grain;
  }

  LATHE_DEVICE_MEMBER void multiply(const char *stage, int step) {
    constexpr int kParts = kPacking.format == CudaFormat::Wide ? 2 : 1;
    const char *x = stage + kTiles * kShape.tileBytes;
    auto &to = kInt4 ? group : sums;
#pragma unroll
    for (int k16 = 0; k16 < 4; ++k16) {
      if (kInt4 && (step * 64 + k16 * 16) % kPacking.grain == 0)
        clearGroup();
      u32 a[kParts][2][4];
#pragma unroll
      for (int part = 0; part < kParts; ++part)
        for (int m = 0; m < 2; ++m)
          weightsOf(stage, m, k16, part, a[part][m]);
#pragma unroll
      for (int plane = 0; plane < kPlanes; ++plane)
#pragma unroll
        for (int n = 0; n < 8; n += 2) {
          u32 b[4];
          int t = warpToken + n * 8 + lane() / 16 * 8 + lane() % 8;
          int c = k16 * 2 + lane() / 8 % 2;
          ldmatrix(b, x + plane * kMatmulTokens * 128 + t * 128 +
                          (c ^ (t & 7)) * 16);
#pragma unroll
          for (int part = 0; part < kParts; ++part)
#pragma unroll
            for (int m = 0; m < 2; ++m) {
              mma(to[m][n], a[part][m], b[0], b[1]);
              mma(to[m][n + 1], a[part][m], b[2], b[3]);
            }
        }
      if (kInt4 && (step * 64 + k16 * 16 + 16) % kPacking.grain == 0)
        addGroup(stage, groupOf(k16));
    }
  }

  LATHE_DEVICE_MEMBER void clearGroup() {
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int n = 0; n < 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          group[m][n][i] = 0.0f;
  }
  LATHE_DEVICE_MEMBER void addGroup(const char *stage, int index) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      u32 s = ((const u32 *)(stage + (warpRow * 2 + m) * kTile +
                             kCode))[index * 8 + lane() / 4];
      float s0 = lowerHalf(s), s8 = upperHalf(s);
#pragma unroll
      for (int n = 0; n < 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          sums[m][n][i] = fma(i < 2 ? s0 : s8, group[m][n][i], sums[m][n][i]);
    }
  }

  LATHE_DEVICE_MEMBER void store() const {
    constexpr float kScaleOf =
        (kPacking.format == CudaFormat::NvFp4 ? 1.0f / kFp4WeightScale : 1.0f) /
        kActivationScale;
    int g = lane() / 4, q = lane() % 4;
    float scale[S::kWeights];
    for (int w = 0; w < S::kWeights; ++w)
      scale[w] = kScaleOf * *(const float *)segment.weights[w];
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        int t = firstToken + warpToken + n * 8 + 2 * q + (i & 1);
        if (t >= ctx.step->tokens)
          continue;
        if constexpr (S::kWeights == 2) {
          int row = tileOf(warpRow * 2) * 16 + g + 8 * (i >> 1);
          if (row < S::kRows)
            segment.epilogue(t, row, scale[0] * sums[0][n][i],
                             scale[1] * sums[1][n][i]);
        } else {
          for (int m = 0; m < 2; ++m) {
            int row = tileOf(warpRow * 2 + m) * 16 + g + 8 * (i >> 1);
            if (row < S::kRows)
              segment.epilogue(t, row, scale[0] * sums[m][n][i]);
          }
        }
      }
  }

  const LatheLaunch &ctx;
  const S &segment;
  char *const shared;
  const int firstTile, firstToken;
  const int warpRow, warpToken; ///< this warp's part of the block
  float sums[2][8][4];
  float group[2][8][4]; ///< Int4: of the current group
};

/// Runs block blockX() of the segments behind each other.
template <MatmulShape kShape, class First, class... Rest>
LATHE_DEVICE void matmul(const LatheLaunch &ctx, int block, const First &first,
                         const Rest &...rest) {
  using M = Matmul<kShape, First>;
  if constexpr (sizeof...(Rest) > 0)
    if (block >= M::kBlocks) {
      matmul<kShape>(ctx, block - M::kBlocks, rest...);
      return;
    }
  M(ctx, first, block).run();
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATMUL_CUH
