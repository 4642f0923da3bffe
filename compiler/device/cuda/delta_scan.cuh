//===- delta_scan.cuh - the state through a prompt's chunks ----*- CUDA -*-===//
//
// The second stage of delta_prefill.cuh. A warp has 16 value columns and keeps
// their state in registers (delta_scan_chunk.cuh). The copy engine brings k, q,
// M and P into shared memory, the next chunk's while this one is worked on.
//
// S^T of more than 128 keys is too much for a warp: then two have every other
// tile of 16 keys and add up their parts of S^T k and S^T q (kParts).
//
// V and S of a warp are scaled by one power of two for the whole launch, such
// that the largest |v| or |S| at the start, m, becomes 16 to 32. With beta and
// |k| up to 1 a step replaces one component of a column of S by one no larger
// than before or than |v|, so over T tokens |S| <= m (16 + sqrt T) and |X| is
// at most m more: far from an f16's end for any prompt, and near enough to its
// start for small values to keep their lower half.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_DELTA_SCAN_CUH
#define LATHE_COMPILER_DEVICE_CUDA_DELTA_SCAN_CUH

#include "compiler/device/cuda/delta_scan_chunk.cuh"

namespace lathe {

/// What a warp works on: 16 columns of a head, all its keys or one part.
struct DeltaWarp {
  int head, column, part;
};
template <class D> LATHE_DEVICE DeltaWarp deltaWarp() {
  return {blockX() / D::kSlices,
          blockX() % D::kSlices * D::kColumns + warp() / D::kParts * 16,
          warp() % D::kParts};
}

/// Calls visit(x, where it is in the plain state) for all of this lane's S^T.
template <class D, class Visit>
LATHE_DEVICE void visitState(float *state, DeltaState<D> &s, Visit visit) {
  DeltaWarp w = deltaWarp<D>();
  float *first = state + (i64)(w.head * D::kK + lane() % 4 * 2) * D::kV +
                 w.column + lane() / 4 + tileKey<D>(w.part, 0) * D::kV;
#pragma unroll
  for (int i = 0; i < D::kKeyTiles; ++i)
    if (tileExists<D>(w.part, i))
#pragma unroll
      for (int x = 0; x < 8; ++x) {
        int key = tileKey<D>(0, i) + x / 4 * 8 + (x & 1);
        visit(s.tile[i][x / 4][x % 4], first[key * D::kV + (x >> 1 & 1) * 8]);
      }
}

/// The largest |v| of this warp's columns, in some lane or other.
template <class Cfg> LATHE_DEVICE float largestValue(const LatheLaunch &ctx) {
  DeltaWarp w = deltaWarp<DeltaScanDims<Cfg>>();
  int chunks = deltaChunks(ctx.step->tokens);
  float peak = 0.0f;
#pragma unroll 1
  for (int i = 0; i < chunks; i += 32) {
    int chunk = i + lane() < chunks ? i + lane() : chunks - 1;
    const float *peaks = deltaChunk<Cfg>(ctx, chunk).peaks(w.head, w.column);
    peak = maximum(peak, maximum(peaks[0], peaks[1]));
  }
  return peak;
}

/// Loads S^T, scaled; returns the scale. The parts of a column may differ in
/// their state, so all keys count.
template <class Cfg>
LATHE_DEVICE float loadState(const LatheLaunch &ctx, float *state,
                             float *exchange,
                             DeltaState<DeltaScanDims<Cfg>> &s) {
  using D = DeltaScanDims<Cfg>;
  s = {};
  visitState<D>(state, s, [&](float &x, float &plain) { x = plain; });
  float peak = largestValue<Cfg>(ctx);
  visitState<D>(state, s, [&](float &x, float &) {
    peak = maximum(peak, maximum(x, -x));
  });
  peak = warpMax(peak);
  if constexpr (D::kParts > 1) {
    exchange[warp()] = peak;
    syncThreads();
    peak = maximum(peak, exchange[warp() ^ 1]);
    syncThreads();
  }
  float scale = scaleFor(peak);
  visitState<D>(state, s, [&](float &x, float &) { x *= scale; });
  return scale;
}

/// Starts the copy of a chunk; one thread does it.
template <class Cfg>
LATHE_DEVICE void copyChunk(const LatheLaunch &ctx, int i, char *shared,
                            Barrier *full) {
  using D = DeltaScanDims<Cfg>;
  if (threadX() != 0)
    return;
  DeltaChunk<Cfg> chunk = deltaChunk<Cfg>(ctx, i);
  int head = blockX() / D::kSlices;
  char *stage = shared + i % D::kStages * D::kStageBytes;
  full += i % D::kStages;
  barrierExpect(full, D::kStageBytes);
  copyBulk(stage, chunk.keys(head / D::kRatio), D::kKeyBytes, full);
  copyBulk(stage + D::kKeyBytes, chunk.matrices(head), kDeltaHeadBytes, full);
}

/// Keeps the launch's last inputs in the ring; each block some of them.
template <class Cfg>
LATHE_DEVICE void keepInputs(const DeltaArgs &args, const LatheStep *step) {
  using D = DeltaScanDims<Cfg>;
  int tokens = step->tokens, position = step->position;
  int rows = tokens < D::kTaps - 1 ? tokens : D::kTaps - 1;
#pragma unroll 1
  for (int i = blockX() * threadCount() + threadX(); i < rows * D::kChannels;
       i += gridX() * threadCount()) {
    int t = tokens - 1 - i / D::kChannels, channel = i % D::kChannels;
    ringRow<Cfg>(args, position + t)[channel] =
        args.qkv[(i64)t * D::kInStride + channel];
  }
}

/// Launch deltaScanBlocks(shape) blocks of deltaScanThreads(shape) threads with
/// deltaScanShared(shape) bytes after deltaPrepare, with its scratch.
template <class Cfg>
LATHE_DEVICE void
deltaScan(const LatheLaunch &ctx, const float *qkv, const float *a,
          const float *b, const float *convWeight, const float *aLog,
          const float *dtBias, float *convState, float *state, float *out) {
  using D = DeltaScanDims<Cfg>;
  DeltaArgs args{qkv, a, b, convWeight, aLog, dtBias, convState, state, out};
  char *shared = sharedMemory();
  float *exchange = (float *)(shared + D::kStages * D::kStageBytes);
  Barrier *full = (Barrier *)(shared + D::kStages * D::kStageBytes +
                              deltaExchangeBytes(D::shape()));
  if (threadX() == 0) {
    for (int i = 0; i < D::kStages; ++i)
      barrierInit(full + i, 1);
    barrierInitFence();
  }
  syncThreads();
  waitForPrevious();
  launchNext();

  const int tokens = ctx.step->tokens, chunks = deltaChunks(tokens);
  for (int i = 0; i < D::kStages && i < chunks; ++i)
    copyChunk<Cfg>(ctx, i, shared, full);
  keepInputs<Cfg>(args, ctx.step);
  DeltaState<D> s;
  const float scale = loadState<Cfg>(ctx, state, exchange, s);
  const DeltaWarp w = deltaWarp<D>();
  const Float4 *values =
      deltaChunk<Cfg>(ctx, 0).values(w.head, w.column) + lane();
  out += w.head * D::kV + w.column;
#pragma unroll 1
  for (int i = 0; i < chunks; ++i) {
    Float4 v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j)
      v[j] = loadOnce((const float *)(values + j * 32));
    values += DeltaChunk<Cfg>::kAt.bytes / sizeof(Float4);
    barrierWait(full + i % D::kStages, i / D::kStages & 1);
    scanChunk<Cfg>({shared + i % D::kStages * D::kStageBytes}, v, scale,
                   tokens - i * kDeltaChunk, exchange, s, out);
    out += kDeltaChunk * D::kOutStride;
    syncThreads();
    if (i + D::kStages < chunks)
      copyChunk<Cfg>(ctx, i + D::kStages, shared, full);
  }
  const float unscale = inverseOfPower(scale);
  visitState<D>(state, s, [&](float &x, float &plain) { plain = x * unscale; });
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_DELTA_SCAN_CUH
