//===- linear.h - y = W x for decode and prefill ----------------*- C++ -*-===//
//
// What the emitter calls. A kernel runs one or more linear segments over one
// Input; Split gives every thread one contiguous share of their total cost, so
// that a thread streams contiguous weights and small segments do not idle the
// team. A tile is computed whole by one thread: the team size does not change
// results.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CPU_LINEAR_H
#define LATHE_COMPILER_DEVICE_CPU_LINEAR_H

#include "compiler/device/cpu/matmul.h"
#include "compiler/device/cpu/matvec.h"

namespace lathe {

/// A part [begin, end) of `total` units of cost.
struct Share {
  i64 begin, end, total;

  /// The tiles of this share. Boundaries are multiples of `step` tiles; the
  /// shares of a team cover every tile once.
  LATHE_MEMBER Range tiles(int count, int step) const {
    return {boundary(begin, count, step), boundary(end, count, step)};
  }

private:
  LATHE_MEMBER int boundary(i64 at, int count, int step) const {
    const i64 tile = (at * count + total * step / 2) / (total * step) * step;
    return at >= total || tile > count ? count : (int)tile;
  }
};

/// Shares of this thread in segments that cost Costs[i] bytes.
template <i64... Costs> class Split {
public:
  LATHE_MEMBER explicit Split(const LatheContext *ctx)
      : begin(kTotal * ctx->thread / ctx->threads),
        end(kTotal * (ctx->thread + 1) / ctx->threads) {}

  LATHE_MEMBER Share range(int segment) const {
    i64 first = 0;
    for (int i = 0; i < segment; ++i)
      first += kCosts[i];
    return {clamp(begin - first, kCosts[segment]),
            clamp(end - first, kCosts[segment]), kCosts[segment]};
  }

private:
  static constexpr i64 kCosts[] = {Costs...};
  static constexpr i64 kTotal = (Costs + ...);

  LATHE_INLINE i64 clamp(i64 x, i64 limit) {
    return x < 0 ? 0 : x > limit ? limit : x;
  }

  i64 begin, end;
};

/// Decode: all tokens of Weights tiles of the same rows; emit(t, y).
template <class Format, int Weights, class In, class Emit>
LATHE_INLINE void matvecTiles(const In &x, const u8 *const (&tiles)[Weights],
                              Emit emit) {
  f32x16 y[Weights][In::kMaxTokens];
  for (int i = 0; i < Weights; ++i)
    matvecTile<Format>(x, tiles[i], y[i]);
  for (int t = 0; t < In::kMaxTokens; ++t) {
    f32x16 column[Weights];
    for (int i = 0; i < Weights; ++i)
      column[i] = y[i][t];
    emit(t, column);
  }
}

/// R tiles from `tile` of each weight; emit(t, row, y) once for each of them.
template <class Format, int R, int Weights, class In, class Emit>
LATHE_INLINE void linearTiles(const In &x, const u8 *const (&weights)[Weights],
                              int tile, Emit emit) {
  constexpr i64 bytes = Format::tileBytes(In::kColumns);
  const u8 *tiles[R * Weights];
  for (int i = 0; i < R * Weights; ++i)
    tiles[i] = weights[i % Weights] + (tile + i / Weights) * bytes;
  auto emitAll = [&](int t, const f32x16(&y)[R * Weights]) {
    for (int r = 0; r < R; ++r)
      emit(t, (tile + r) * LATHE_LANES, y + r * Weights);
  };
  if constexpr (In::kShared)
    matmulTiles<Format>(x, tiles, emitAll);
  else
    matvecTiles<Format>(x, tiles, emitAll);
}

/// `share` of N rows of each weight: four tiles at once in prefill.
template <class Format, int N, int Weights, class In, class Emit>
LATHE_INLINE void linearRange(const In &x, Share share,
                              const u8 *const (&weights)[Weights], Emit emit) {
  constexpr int step = In::kShared ? 4 / Weights : 1;
  const Range range = share.tiles(roundUp(N, LATHE_LANES) / LATHE_LANES, step);
  int tile = range.begin;
  for (; tile + step <= range.end; tile += step)
    linearTiles<Format, step>(x, weights, tile, emit);
  if constexpr (step > 1)
    for (; tile < range.end; ++tile)
      linearTiles<Format, 1>(x, weights, tile, emit);
}

/// Calls epilogue(t, row, y) with rows [row, row + 16) of W x[t], for this
/// share of the rows and every token.
template <class Format, int N, class In, class Epilogue>
LATHE_INLINE void linear(const In &x, Share share, const void *weight,
                         Epilogue epilogue) {
  const u8 *const weights[] = {(const u8 *)weight};
  linearRange<Format, N>(
      x, share, weights,
      [&](int t, int row, const f32x16 *y) { epilogue(t, row, y[0]); });
}

/// The same for two weights of one shape: epilogue(t, row, y0, y1).
template <class Format, int N, class In, class Epilogue>
LATHE_INLINE void linear2(const In &x, Share share, const void *weight0,
                          const void *weight1, Epilogue epilogue) {
  const u8 *const weights[] = {(const u8 *)weight0, (const u8 *)weight1};
  linearRange<Format, N>(
      x, share, weights,
      [&](int t, int row, const f32x16 *y) { epilogue(t, row, y[0], y[1]); });
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CPU_LINEAR_H
