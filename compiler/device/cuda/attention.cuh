//===- attention.cuh - what the attention kernels share --------*- CUDA -*-===//
//
// Grouped-query attention with a KV cache: q and k of a head are normalized
// (optional) and rotated, k and v are appended to the cache, and
//
//   out = sum_j softmax_j(q . k_j * scale) v_j    over positions j <= own
//
// with the softmax computed online (arXiv 2205.14135).
//
// Layouts: q, k, v rows with the config's strides, heads of k and v dense;
// cache [kvHeads][ctx.capacity][D] of Cfg::Kv, float or f16 (u16); out
// [T][heads * D] with kOutStride. Query head h reads kv head
// h / (heads / kvHeads). D is a multiple of 16, at most 256.
//
// Both products run on the tensor cores. With a float cache the operands are
// split in an upper and a lower tf32 part, which leaves errors near 1e-6.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_ATTENTION_CUH
#define LATHE_COMPILER_DEVICE_CUDA_ATTENTION_CUH

#include "compiler/device/cuda/attention_sizes.h"
#include "compiler/device/cuda/rope.cuh"

namespace lathe {

template <class Cfg> struct AttentionDims {
  using Kv = typename Cfg::Kv;
  static constexpr CudaAttentionShape kShape{Cfg::kHeads, Cfg::kKvHeads,
                                             Cfg::kHeadDim, Cfg::kRotaryDim,
                                             (int)sizeof(Kv)};
  static constexpr int kD = Cfg::kHeadDim;
  static constexpr int kGroup = kShape.group();
  static constexpr int kRowBytes = kShape.rowBytes();
  static constexpr int kPieces = kD * sizeof(Kv) / 16; ///< of a cached row
  static constexpr int kChunks = kShape.chunks();
  static constexpr int kPerLane = ceilDiv(kD, 32);
  static_assert(kD % 16 == 0 && kD <= 256 && Cfg::kRotaryDim % 2 == 0);
  static_assert(Cfg::kHeads % Cfg::kKvHeads == 0 && kGroup <= 16);
};

template <class Cfg> struct AttentionArgs {
  const float *q, *k, *v, *qNorm, *kNorm;
  typename Cfg::Kv *keys, *values;
  float *out;
};

/// Stands for "no score yet": finite, so that differences of two are numbers.
constexpr float kNoScore = -1e30f;

//===----------------------------------------------------------------------===//
// Heads on their way in: a warp has one, lane l elements l + 32 j.
//===----------------------------------------------------------------------===//

template <class Cfg> struct HeadDims {
  static constexpr int kPerLane = ceilDiv(Cfg::kHeadDim, 32);
  static constexpr int kHalf = Cfg::kRotaryDim / 2;
  static constexpr int kTurns = ceilDiv(Cfg::kRotaryDim, 32); ///< of a lane
  /// The other element of a rotated pair belongs to the same lane.
  static constexpr bool kOwnPairs = kHalf % 32 == 0;
};

/// What a lane's elements are multiplied with, beside the norm.
template <class Cfg> struct HeadWeights {
  float at[HeadDims<Cfg>::kPerLane];

  LATHE_DEVICE_MEMBER void load(const float *weight) {
#pragma unroll
    for (int j = 0; j < HeadDims<Cfg>::kPerLane; ++j) {
      const int i = lane() + 32 * j;
      at[j] = 1.0f;
      if constexpr (Cfg::kQkNorm)
        at[j] = base() + (i < Cfg::kHeadDim ? weight[i] : 0.0f);
    }
  }
  static LATHE_DEVICE_MEMBER float base() {
    return Cfg::kNormPlusOne ? 1.0f : 0.0f;
  }
};

/// How a position turns a lane's elements; not at all past the rotated part.
template <class Cfg> struct HeadTurns {
  using H = HeadDims<Cfg>;
  SinCos at[H::kTurns > 0 ? H::kTurns : 1];

  LATHE_DEVICE_MEMBER void make(int position) {
    if constexpr (H::kTurns > 0)
#pragma unroll
      for (int j = 0; j < H::kTurns; ++j) {
        const int i = lane() + 32 * j;
        at[j] = sinCosOf(position,
                         i < Cfg::kRotaryDim
                             ? Cfg::kInvFreq[i < H::kHalf ? i : i - H::kHalf]
                             : 0.0f);
      }
  }
};

/// A head as it is; zero from D on.
template <class Cfg>
LATHE_DEVICE void loadHead(const float *x,
                           float (&y)[HeadDims<Cfg>::kPerLane]) {
#pragma unroll
  for (int j = 0; j < HeadDims<Cfg>::kPerLane; ++j) {
    int i = lane() + 32 * j;
    y[j] = i < Cfg::kHeadDim ? loadFresh(x + i) : 0.0f;
  }
}

/// q or k of a head, loaded from `x`, normalized, rotated and scaled; zero from
/// D on. `memory` is where the weights came from.
template <class Cfg>
LATHE_DEVICE void placeHead(const float (&loaded)[HeadDims<Cfg>::kPerLane],
                            const float *x, const HeadWeights<Cfg> &weights,
                            const float *memory, const HeadTurns<Cfg> &turns,
                            float scale, float (&y)[HeadDims<Cfg>::kPerLane]) {
  using H = HeadDims<Cfg>;
  float squares = 0.0f;
#pragma unroll
  for (int j = 0; j < H::kPerLane; ++j)
    squares = fma(loaded[j], loaded[j], squares);
  float factor = 1.0f;
  if constexpr (Cfg::kQkNorm)
    factor = rsqrt(fma(warpSum(squares), 1.0f / Cfg::kHeadDim, Cfg::kNormEps));
#pragma unroll
  for (int j = 0; j < H::kPerLane; ++j) {
    y[j] = loaded[j] * factor * weights.at[j];
    if constexpr (H::kTurns > 0)
      if (j < H::kTurns) {
        const int i = lane() + 32 * j;
        const bool first = i < H::kHalf;
        float pair;
        if constexpr (H::kOwnPairs) {
          const int other =
              32 * j < H::kHalf ? j + H::kHalf / 32 : j - H::kHalf / 32;
          pair = loaded[other] * factor * weights.at[other];
        } else {
          // From memory again: no exchange between lanes.
          const int other = i >= Cfg::kRotaryDim ? 0
                            : first              ? i + H::kHalf
                                                 : i - H::kHalf;
          pair = loadFresh(x + other) * factor;
          if constexpr (Cfg::kQkNorm)
            pair *= HeadWeights<Cfg>::base() + memory[other];
        }
        const SinCos at = turns.at[j];
        y[j] = fma(y[j], at.cos, pair * (first ? -at.sin : at.sin));
      }
    y[j] *= lane() + 32 * j < Cfg::kHeadDim ? scale : 0.0f;
  }
}
template <class Cfg>
LATHE_DEVICE void placeHead(const float *x, const float *memory, int position,
                            float scale, float (&y)[HeadDims<Cfg>::kPerLane]) {
  float loaded[HeadDims<Cfg>::kPerLane];
  loadHead<Cfg>(x, loaded);
  HeadWeights<Cfg> weights;
  weights.load(memory);
  HeadTurns<Cfg> turns;
  turns.make(position);
  placeHead<Cfg>(loaded, x, weights, memory, turns, scale, y);
}

LATHE_DEVICE void storeAs(float *to, float x) { *to = x; }
LATHE_DEVICE void storeAs(u16 *to, float x) { *to = floatToHalf(x); }

//===----------------------------------------------------------------------===//
// Rows in shared memory
//===----------------------------------------------------------------------===//

/// Where 16-byte piece `piece` of a row is. The pieces of a row are permuted so
/// that neither eight rows read at one piece (ldmatrix) nor two rows at four
/// (16-byte loads of a quarter of a warp) meet in a bank.
template <int kRowBytes> LATHE_DEVICE int pieceAt(int row, int piece) {
  int turn = (row & 1) << 2 | (row >> 1 & 3);
  return row * kRowBytes + ((piece ^ turn) << 4);
}
template <int kRowBytes, class T> LATHE_DEVICE int elementAt(int row, int i) {
  constexpr int kPer = 16 / sizeof(T);
  return pieceAt<kRowBytes>(row, i / kPer) + i % kPer * (int)sizeof(T);
}

/// From the place of a piece to that of the piece `count` further in the row,
/// where adding the two numbers carries nothing in the last three bits.
LATHE_DEVICE int pieceAfter(int at, int count) {
  return (at ^ (count & 7) << 4) + (count >> 3) * 128;
}

/// Starts copying kRows rows of one kv head from position `first` on, by
/// kThreads threads of which this one is number `thread`. Those
/// from `cached` on have not been written: the first `fresh` of them are left
/// to the caller, the others become zero, and so does a row's last chunk where
/// it is longer than the row.
template <class Cfg, int kRows, int kThreads>
LATHE_DEVICE void copyRows(char *to, const typename Cfg::Kv *from, int first,
                           int cached, int fresh, int thread = threadX()) {
  using A = AttentionDims<Cfg>;
  constexpr int kPer = 4 * A::kChunks, kAll = kRows * kPer;
#pragma unroll
  for (int k = 0; k < ceilDiv(kAll, kThreads); ++k) {
    int i = thread + k * kThreads, row = i / kPer, piece = i % kPer;
    int position = first + row;
    bool valid = position < cached && piece < A::kPieces;
    const char *source = (const char *)(from + (i64)position * A::kD);
    if (i < kAll && (position < cached || position >= cached + fresh))
      copyAsync16(to + pieceAt<A::kRowBytes>(row, piece),
                  valid ? source + piece * 16 : (const char *)from, valid);
  }
}

//===----------------------------------------------------------------------===//
// Operands of the tensor cores. g = lane / 4, q = lane % 4.
//===----------------------------------------------------------------------===//

/// How the elements of a cache are multiplied. A step is what one mma sums
/// over: kDepth elements. Within a chunk of a row the order of elements is free
/// as long as both operands have the same: lane q takes 16 bytes.
template <class Kv> struct Tensor;

template <> struct Tensor<u16> {
  static constexpr int kDepth = 16;
  /// Row operand: 16 rows.
  struct Rows {
    u32 a[4];
  };
  static LATHE_DEVICE_MEMBER Rows rows(u32 a0, u32 a1, u32 a2, u32 a3) {
    return {{a0, a1, a2, a3}};
  }
  static LATHE_DEVICE_MEMBER void multiply(float (&d)[4], const Rows &rows,
                                           u32 b0, u32 b1) {
    mma(d, rows.a, b0, b1);
  }
  /// Weights of 16 positions: [n][i] as the mma of their scores left them.
  static LATHE_DEVICE_MEMBER Rows weights(const float (*p)[4], int step) {
    const float (&l)[4] = p[2 * step], (&r)[4] = p[2 * step + 1];
    return rows(packHalf(l[0], l[1]), packHalf(l[2], l[3]),
                packHalf(r[0], r[1]), packHalf(r[2], r[3]));
  }
  /// Where this lane reads V for the columns from 16 pair on.
  template <int kRowBytes> static LATHE_DEVICE_MEMBER int valuesAt(int pair) {
    int matrix = lane() / 8;
    return pieceAt<kRowBytes>(8 * (matrix & 1) + lane() % 8,
                              2 * pair + matrix / 2);
  }
  /// Operands b0, b1 of a step for columns g, then for columns 8 + g of the
  /// pair `pairs` further.
  template <int kRowBytes>
  static LATHE_DEVICE_MEMBER void values(u32 (&b)[4], const char *tile, int at,
                                         int step, int pairs) {
    ldmatrixTransposed(b, tile + step * 16 * kRowBytes +
                              pieceAfter(at, 2 * pairs));
  }
};

template <> struct Tensor<float> {
  static constexpr int kDepth = 8;
  struct Rows {
    u32 upper[4], lower[4];
  };
  /// Rounded to nearest, so that errors have either sign.
  static LATHE_DEVICE_MEMBER u32 upper(u32 x) {
    return (x + 0x1000) & 0xffffe000;
  }
  static LATHE_DEVICE_MEMBER u32 lower(u32 x) {
    return floatBits(add(bitsFloat(x), -bitsFloat(upper(x))));
  }
  static LATHE_DEVICE_MEMBER Rows rows(u32 a0, u32 a1, u32 a2, u32 a3) {
    return {{upper(a0), upper(a1), upper(a2), upper(a3)},
            {lower(a0), lower(a1), lower(a2), lower(a3)}};
  }
  static LATHE_DEVICE_MEMBER void multiply(float (&d)[4], const Rows &rows,
                                           u32 b0, u32 b1) {
    mmaTf32(d, rows.upper, upper(b0), upper(b1));
    mmaTf32(d, rows.upper, lower(b0), lower(b1));
    mmaTf32(d, rows.lower, upper(b0), upper(b1));
  }
  static LATHE_DEVICE_MEMBER Rows weights(const float (*p)[4], int step) {
    const float (&s)[4] = p[step];
    return rows(floatBits(s[0]), floatBits(s[2]), floatBits(s[1]),
                floatBits(s[3]));
  }
  template <int kRowBytes> static LATHE_DEVICE_MEMBER int valuesAt(int pair) {
    return elementAt<kRowBytes, float>(lane() % 4 * 2, 16 * pair + lane() / 4);
  }
  template <int kRowBytes>
  static LATHE_DEVICE_MEMBER void values(u32 (&b)[4], const char *tile, int at,
                                         int step, int pairs) {
    // The odd row's pieces are turned by 4 more than the even row's.
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const char *row = tile + (step * 8 + i % 2) * kRowBytes;
      int column = pieceAfter(at, 4 * pairs + i / 2 * 2) ^ i % 2 * 64;
      b[i] = *(const u32 *)(row + column);
    }
  }
};

/// Where this lane reads chunks of a row of K, and its 16 bytes of one: words 0
/// and 1 are b0 and b1 of a step, words 2 and 3 those of the next.
template <int kRowBytes> LATHE_DEVICE int chunksAt(int row) {
  return pieceAt<kRowBytes>(row, lane() % 4);
}
LATHE_DEVICE Vec4 chunkOf(const char *rows, int at, int chunk) {
  return *(const Vec4 *)(rows + pieceAfter(at, 4 * chunk));
}

/// Stores a head that a warp has, element by element, up to the last chunk's
/// end.
template <class Cfg, class F>
LATHE_DEVICE void storeHead(const float (&x)[AttentionDims<Cfg>::kPerLane],
                            F store) {
  using A = AttentionDims<Cfg>;
#pragma unroll
  for (int j = 0; j < A::kPerLane; ++j) {
    int i = lane() + 32 * j;
    if (32 * (j + 1) <= A::kShape.chunkColumns() ||
        i < A::kShape.chunkColumns())
      store(i, x[j]);
  }
}

/// Queries are kept as operands: [step][lane] a[0..3], for 16 rows. Where
/// element i of a row is.
template <class T> LATHE_DEVICE int queryAt(int row, int i) {
  constexpr int kPer = 16 / sizeof(T);
  int quad = i / kPer % 4, word = i % kPer * (int)sizeof(T) / 4;
  int step = i / (4 * kPer) * 2 + word / 2, a = row / 8 + word % 2 * 2;
  return (step * 32 + row % 8 * 4 + quad) * 16 + a * 4 + i * (int)sizeof(T) % 4;
}
LATHE_DEVICE Vec4 queriesOf(const char *operands, int step) {
  return ((const Vec4 *)operands)[step * 32 + lane()];
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_ATTENTION_CUH
