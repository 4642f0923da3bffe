//===- attention_split.cuh - eight rows as an operand of 16 ----*- CUDA -*-===//
//
// In decoding, queries and softmax weights keep their float precision: each is
// the sum of an upper and a lower part (f16, or tf32 with a float cache). Eight
// rows make one operand of 16: upper parts in rows 0-7, lower parts in rows
// 8-15. One mma multiplies both, and a lane finds the two halves of each sum in
// its own registers, d[i] and d[i + 2].
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_ATTENTION_SPLIT_CUH
#define LATHE_COMPILER_DEVICE_CUDA_ATTENTION_SPLIT_CUH

#include "compiler/device/cuda/attention.cuh"

namespace lathe {

template <class Kv> struct SplitTensor;

/// Queries: an operand. Weights: in place of a row's 64 scores, 64 upper and
/// then 64 lower parts.
template <> struct SplitTensor<u16> {
  static LATHE_DEVICE_MEMBER void storeQuery(char *tile, int row, int i,
                                             float x) {
    u16 upper = floatToHalf(x);
    *(u16 *)(tile + queryAt<u16>(row, i)) = upper;
    *(u16 *)(tile + queryAt<u16>(row + 8, i)) =
        floatToHalf(add(x, -halfToFloat(upper)));
  }
  /// Adds a chunk's products to two sums of their own: an mma waits for the
  /// last one on the same sum.
  static LATHE_DEVICE_MEMBER void score(float (&s)[2][4], const char *tile,
                                        int chunk, const Vec4 &key) {
    Vec4 a = queriesOf(tile, 2 * chunk), b = queriesOf(tile, 2 * chunk + 1);
    mma(s[0], {a.x, a.y, a.z, a.w}, key.x, key.y);
    mma(s[1], {b.x, b.y, b.z, b.w}, key.z, key.w);
  }
  /// A lane has weights 2 lane and 2 lane + 1 of the row.
  static LATHE_DEVICE_MEMBER void storeWeights(float *row,
                                               const float (&x)[2]) {
    u32 upper = packHalf(x[0], x[1]);
    ((u32 *)row)[lane()] = upper;
    ((u32 *)row)[32 + lane()] =
        packHalf(add(x[0], -lowerHalf(upper)), add(x[1], -upperHalf(upper)));
  }
  static LATHE_DEVICE_MEMBER void weights(u32 (&a)[4], const float *rows,
                                          int stride, int step) {
    int matrix = lane() / 8;
    ldmatrix(a, (const u16 *)(rows + lane() % 8 * stride) + matrix % 2 * 64 +
                    16 * step + matrix / 2 * 8);
  }
  static LATHE_DEVICE_MEMBER void multiply(float (&d)[4], const u32 (&a)[4],
                                           u32 b0, u32 b1) {
    mma(d, a, b0, b1);
  }
};

/// Queries: [chunk][lane] four floats; weights: 32 floats in place of a row's
/// scores. Both are split on their way into registers.
template <> struct SplitTensor<float> {
  using T = Tensor<float>;

  static LATHE_DEVICE_MEMBER void storeQuery(char *tile, int row, int i,
                                             float x) {
    ((float *)tile)[i / 16 * 128 + row * 16 + i % 16] = x;
  }
  static LATHE_DEVICE_MEMBER void score(float (&s)[2][4], const char *tile,
                                        int chunk, const Vec4 &key) {
    Vec4 x = ((const Vec4 *)tile)[chunk * 32 + lane()];
    multiply(s[0], {T::upper(x.x), T::lower(x.x), T::upper(x.y), T::lower(x.y)},
             key.x, key.y);
    multiply(s[1], {T::upper(x.z), T::lower(x.z), T::upper(x.w), T::lower(x.w)},
             key.z, key.w);
  }
  static LATHE_DEVICE_MEMBER void storeWeights(float *row,
                                               const float (&x)[1]) {
    row[lane()] = x[0];
  }
  static LATHE_DEVICE_MEMBER void weights(u32 (&a)[4], const float *rows,
                                          int stride, int step) {
    Float2 p = *(const Float2 *)(rows + lane() / 4 * stride + 8 * step +
                                 lane() % 4 * 2);
    a[0] = T::upper(floatBits(p.x)), a[1] = T::lower(floatBits(p.x));
    a[2] = T::upper(floatBits(p.y)), a[3] = T::lower(floatBits(p.y));
  }
  static LATHE_DEVICE_MEMBER void multiply(float (&d)[4], const u32 (&a)[4],
                                           u32 b0, u32 b1) {
    mmaTf32(d, a, T::upper(b0), T::upper(b1));
    mmaTf32(d, a, T::lower(b0), T::lower(b1));
  }
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_ATTENTION_SPLIT_CUH
