//===- delta_prepare.cuh - a prompt's chunks before the state -*- CUDA -*-===//
//
// The first stage of delta_prefill.cuh. A block has one chunk of either a key
// head, with M and P of its value heads, or of a value head's v. A thread
// convolves a channel for half of the chunk's tokens at a time.
//
// The decays e^{G_i - G_j} are products of the tokens' decays, made row by row:
// no difference of large sums, and no exponential per entry.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_DELTA_PREPARE_CUH
#define LATHE_COMPILER_DEVICE_CUDA_DELTA_PREPARE_CUH

#include "compiler/device/cuda/delta_chunk.cuh"

namespace lathe {

/// Where a chunk lies in the launch.
struct DeltaTokens {
  int first, end; ///< `end` is that of the launch
  int position;   ///< of the launch's first token
};

/// A channel's convolution for half of a chunk; 0 beyond the last token.
template <class Cfg>
LATHE_DEVICE void convolveHalf(const DeltaArgs &args, DeltaTokens tokens,
                               int channel, int half, float (&y)[16]) {
  using D = DeltaDims<Cfg>;
  constexpr int kBefore = D::kTaps - 1;
  const int first = tokens.first + half * 16;
  float weight[D::kTaps], in[kBefore + 16];
  loadTaps<Cfg>(args, channel, weight);
#pragma unroll
  for (int j = 0; j < kBefore + 16; ++j) {
    int t = first - kBefore + j;
    const float *row = j < kBefore && t < 0
                           ? ringRow<Cfg>(args, tokens.position + t)
                           : args.qkv + (i64)t * D::kInStride;
    in[j] = t < tokens.end ? row[channel] : 0.0f;
  }
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    float value = convolve(in + i, weight);
    y[i] = first + i < tokens.end ? value : 0.0f;
  }
}

/// Convolves k and q of a key head; rows of floats where the halves will be.
template <class Cfg>
LATHE_DEVICE void convolveKeys(const DeltaArgs &args, DeltaTokens tokens,
                               int keyHead, char *rows) {
  using D = DeltaDims<Cfg>;
  constexpr int kRow = deltaRowBytes(D::kK);
#pragma unroll 1
  for (int i = threadX(); i < 4 * D::kK; i += kDeltaPrepareThreads) {
    int column = i % D::kK, query = i / D::kK % 2, half = i / (2 * D::kK);
    int channel = (query ? D::query(keyHead) : D::key(keyHead)) + column;
    float y[16];
    convolveHalf<Cfg>(args, tokens, channel, half, y);
    char *to = rows + (query * kDeltaChunk + half * 16) * kRow + column * 4;
#pragma unroll
    for (int t = 0; t < 16; ++t)
      *(float *)(to + t * kRow) = y[t];
  }
}

/// Scales a row of floats to length `scale` and splits it, in place; one warp.
template <int kWidth>
LATHE_DEVICE void normalizeSplit(char *row, float eps, float scale) {
  constexpr int kEach = ceilDiv(kWidth, 64);
  float x[kEach][2], squares = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      int at = i * 64 + lane() * 2 + j;
      x[i][j] = kWidth % 64 == 0 || at < kWidth ? ((float *)row)[at] : 0.0f;
      squares = fma(x[i][j], x[i][j], squares);
    }
  float factor = rsqrt(warpSum(squares) + eps) * scale;
  syncWarp();
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    u32 upper, lower;
    splitPair(x[i][0] * factor, x[i][1] * factor, upper, lower);
    int at = i * 32 + lane();
    if (kWidth % 64 == 0 || at * 2 < kWidth) {
      ((u32 *)row)[at] = upper;
      ((u32 *)row)[kWidth / 2 + at] = lower;
    }
  }
}

/// dots[0] = K K^T and dots[1] = Q K^T on and below the diagonal, from the
/// split rows. Each of the eight warps has 16 rows and 16 columns.
template <int kK>
LATHE_DEVICE void multiplyKeys(const char *rows, float *dots) {
  constexpr int kRow = deltaRowBytes(kK);
  static_assert(kDeltaPrepareThreads == 256 && kDeltaChunk == 32);
  int query = warp() / 4, row = warp() / 2 % 2 * 16, column = warp() % 2 * 16;
  if (column > row)
    return;
  float d[2][4] = {};
#pragma unroll 2
  for (int i = 0; i < kK; i += 16) {
    SplitTile a;
    loadTile<kK>(rows + (query * kDeltaChunk + row) * kRow + i * 2, a);
    multiplySplit<kK>(d[0], a, rows + column * kRow + i * 2);
    multiplySplit<kK>(d[1], a, rows + (column + 8) * kRow + i * 2);
  }
  float *to = dots +
              (query * kDeltaChunk + row + lane() / 4) * kDeltaDotStride +
              column + lane() % 4 * 2;
#pragma unroll
  for (int x = 0; x < 2; ++x)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      to[(i >> 1) * 8 * kDeltaDotStride + x * 8 + (i & 1)] = d[x][i];
}

/// -L into `lower` and P into `rows`, by one warp: lane j makes column j.
/// Returns e^{G_n - G_j}.
LATHE_DEVICE float decayDots(const float *dots, DeltaGates gates, float *lower,
                             char *rows) {
  constexpr float kDown = 1.0f / (kDeltaKeyScale * kDeltaKeyScale);
  float gap = 0.0f; // e^{G_i - G_j} from row j on
#pragma unroll 4
  for (int i = 0; i < kDeltaChunk; ++i) {
    float decay = shuffle(gates.decay, i), beta = shuffle(gates.beta, i);
    const float *dot = dots + i * kDeltaDotStride + lane();
    float kk = dot[0], qk = dot[kDeltaChunk * kDeltaDotStride];
    gap = lane() == i ? 1.0f : gap * decay;
    // Dots above the diagonal may be anything.
    lower[i * kDeltaLowerStride + lane()] =
        lane() < i ? -beta * (kk * kDown) * gap : 0.0f;
    storeSplit<kDeltaChunk>(rows + i * deltaRowBytes(kDeltaChunk), lane(),
                            lane() <= i ? qk * (kDown * kDeltaKeyScale) * gap
                                        : 0.0f);
  }
  return gap;
}

/// M from -L by forward substitution, by one warp: lane j has column j.
LATHE_DEVICE void solveLower(const float *lower, float beta, char *rows) {
  float m[kDeltaChunk];
#pragma unroll
  for (int i = 0; i < kDeltaChunk; ++i) {
    // Four sums, or the additions would be a single chain.
    float sum[4] = {lane() == i ? beta : 0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int j = 0; j < i; j += 4) {
      Float4 l = *(const Float4 *)(lower + i * kDeltaLowerStride + j);
      const float part[4] = {l.x, l.y, l.z, l.w};
#pragma unroll
      for (int x = 0; x < 4 && j + x < i; ++x)
        sum[x] = fma(part[x], m[j + x], sum[x]);
    }
    m[i] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    storeSplit<kDeltaChunk>(rows + i * deltaRowBytes(kDeltaChunk), lane(),
                            m[i] * kDeltaSolveScale);
  }
}

/// M, P and the decays of a value head, by one warp; lane = token.
template <class Cfg>
LATHE_DEVICE void prepareMatrices(const DeltaArgs &args, DeltaTokens tokens,
                                  int head, const float *dots, float *lower,
                                  char *matrices) {
  int t = tokens.first + lane();
  bool exists = t < tokens.end;
  i64 at =
      (i64)(exists ? t : tokens.first) * DeltaDims<Cfg>::kGateStride + head;
  DeltaGates gates =
      deltaGates(args.a[at], args.b[at], args.aLog[head], args.dtBias[head]);
  gates.beta = exists ? gates.beta : 0.0f;
  gates.decay = exists ? gates.decay : 1.0f;
  float fromStart = gates.decay;
#pragma unroll
  for (int by = 1; by < 32; by *= 2) {
    float before = shuffleUp(fromStart, by);
    fromStart *= lane() >= by ? before : 1.0f;
  }
  float toEnd = decayDots(dots, gates, lower, matrices + kDeltaMatrixBytes);
  float *decays = (float *)(matrices + 2 * kDeltaMatrixBytes);
  decays[lane()] = fromStart;
  decays[kDeltaChunk + lane()] = toEnd;
  syncWarp();
  solveLower(lower, gates.beta, matrices);
}

/// k, q, M and P of a chunk of a key head and its value heads.
template <class Cfg>
LATHE_DEVICE void prepareKeys(const DeltaArgs &args, DeltaTokens tokens,
                              int keyHead, DeltaChunk<Cfg> chunk) {
  using D = DeltaDims<Cfg>;
  constexpr int kWarps = kDeltaPrepareThreads / 32;
  constexpr int kRow = deltaRowBytes(D::kK);
  char *rows = sharedMemory();
  float *dots = (float *)(rows + deltaPrepareRows(D::shape()));
  convolveKeys<Cfg>(args, tokens, keyHead, rows);
  syncThreads();
#pragma unroll 1
  for (int r = warp(); r < 2 * kDeltaChunk; r += kWarps)
    normalizeSplit<D::kK>(rows + r * kRow, Cfg::kQkEps, kDeltaKeyScale);
  syncThreads();
  multiplyKeys<D::kK>(rows, dots);
  Vec4 *to = (Vec4 *)chunk.keys(keyHead);
  for (int i = threadX(); i < deltaKeyBytes(D::shape()) / 16;
       i += kDeltaPrepareThreads)
    to[i] = ((const Vec4 *)rows)[i];
  syncThreads();
  float *lower = (float *)(rows + warp() * kDeltaLowerBytes);
  for (int r = warp(); r < D::kRatio; r += kWarps) {
    int head = keyHead * D::kRatio + r;
    prepareMatrices<Cfg>(args, tokens, head, dots, lower, chunk.matrices(head));
    syncWarp();
  }
}

/// A chunk of a value head's v and its largest values.
template <class Cfg>
LATHE_DEVICE void prepareValues(const DeltaArgs &args, DeltaTokens tokens,
                                int head, DeltaChunk<Cfg> chunk) {
  using D = DeltaDims<Cfg>;
#pragma unroll 1
  for (int i = threadX(); i < 2 * D::kV; i += kDeltaPrepareThreads) {
    int column = i % D::kV, half = i / D::kV;
    float y[16], peak = 0.0f;
    convolveHalf<Cfg>(args, tokens, D::value(head) + column, half, y);
    Float4 *to = chunk.values(head, column) +
                 ((column % 16 / 8 * 2 + half) * 32 + column % 8 * 4);
#pragma unroll
    for (int q = 0; q < 4; ++q)
      to[q] = {y[2 * q], y[2 * q + 1], y[2 * q + 8], y[2 * q + 9]};
#pragma unroll
    for (int t = 0; t < 16; ++t)
      peak = maximum(peak, maximum(y[t], -y[t]));
    // 16 lanes have 16 columns of one head and half.
#pragma unroll
    for (int mask = 8; mask > 0; mask /= 2)
      peak = maximum(peak, shuffleXor(peak, mask));
    if (lane() % 16 == 0)
      chunk.peaks(head, column)[half] = peak;
  }
}

/// Launch deltaPrepareBlocks(shape, maxTokens) blocks of kDeltaPrepareThreads
/// threads with deltaPrepareShared(shape) bytes; the scratch is
/// deltaScratch(shape, maxTokens) bytes.
template <class Cfg>
LATHE_DEVICE void
deltaPrepare(const LatheLaunch &ctx, const float *qkv, const float *a,
             const float *b, const float *convWeight, const float *aLog,
             const float *dtBias, float *convState, float *state, float *out) {
  constexpr int kUnits = Cfg::kKeyHeads + Cfg::kValueHeads;
  DeltaArgs args{qkv, a, b, convWeight, aLog, dtBias, convState, state, out};
  int chunk = blockX() / kUnits, unit = blockX() % kUnits;
  waitForPrevious();
  launchNext();
  DeltaTokens tokens{chunk * kDeltaChunk, ctx.step->tokens, ctx.step->position};
  if (tokens.first >= tokens.end)
    return;
  if (unit < Cfg::kKeyHeads)
    prepareKeys<Cfg>(args, tokens, unit, deltaChunk<Cfg>(ctx, chunk));
  else
    prepareValues<Cfg>(args, tokens, unit - Cfg::kKeyHeads,
                       deltaChunk<Cfg>(ctx, chunk));
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_DELTA_PREPARE_CUH
