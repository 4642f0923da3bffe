//===- matmul_warpgroup.cuh - a prompt's linear on sm_90a ------*- CUDA -*-===//
//
// The second stage of a prompt's linear where the tensor cores take B from
// shared memory and run beside the warps. A block multiplies 256 rows of a
// segment with up to 128 tokens, then the next such tile. One warp lets the
// copy engine bring weights and activations, two warpgroups multiply
// (warpgroup_tile.cuh). The rings between them run on from tile to tile.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATMUL_WARPGROUP_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATMUL_WARPGROUP_CUH

#include "compiler/device/cuda/matvec_segments.cuh"
#include "compiler/device/cuda/warpgroup_tile.cuh"

namespace lathe {

/// A warp's sums of a segment's rows `from` through the epilogue.
template <WarpgroupShape kShape, class S>
LATHE_DEVICE void storeSums(const S &segment, WarpgroupRows from,
                            int firstToken, int tokens,
                            const WarpgroupSums<kShape> &sums) {
  constexpr float kUnscale =
      1.0f / operandScale(S::kPacking) / kActivationScale;
  const int place = firstPlace(), column = firstToken + lane() % 4 * 2;
  float by[2][2];
#pragma unroll
  for (int m = 0; m < 2; ++m)
#pragma unroll
    for (int lower = 0; lower < 2; ++lower)
      by[m][lower] = sums.scale[m][lower] * kUnscale *
                     *(const float *)segment.weights[S::kWeights == 2 && m];
#pragma unroll
  for (int i = 0; i < sums.kCount; ++i) {
    const int t = column + i / 4 * 8 + (i & 1), lower = i >> 1 & 1;
    if (t >= tokens)
      continue;
#pragma unroll
    for (int m = 0; m < 3 - S::kWeights; ++m) {
      const int tile = from.first + tileAt<S::kWeights>(place + 4 * m);
      const int row = tile * 16 + lane() / 4 + 8 * lower;
      if (row >= S::kRows)
        continue;
      if constexpr (S::kWeights == 2)
        segment.epilogue(t, row, by[0][lower] * sums.sums[0][i],
                         by[1][lower] * sums.sums[1][i]);
      else
        segment.epilogue(t, row, by[m][lower] * sums.sums[m][i]);
    }
  }
}

/// Segments of one kind share their code up to the epilogue.
template <class S> constexpr int kindOf() {
  return (int)S::kPacking.format | S::kPacking.grain << 4 |
         S::kPacking.asymmetric << 16 | S::kWeights << 17;
}
/// Runs run(a segment) for the last segment of this kind.
template <class Run, class First, class... Rest>
LATHE_DEVICE void runKind(int kind, const Run &run, const First &first,
                          const Rest &...rest) {
  if constexpr (sizeof...(Rest) == 0) {
    run(first);
  } else {
    constexpr bool kAgain = ((kindOf<First>() == kindOf<Rest>()) || ...);
    if constexpr (!kAgain)
      if (kind == kindOf<First>()) {
        run(first);
        return;
      }
    runKind(kind, run, rest...);
  }
}

template <class S> constexpr int warpgroupBlocks() {
  return ceilDiv(S::kTiles * S::kWeights, kWarpgroupTiles);
}
/// Runs run(segment, block in it) for the segment that has row block `block`.
template <class Run, class First, class... Rest>
LATHE_DEVICE void runSegment(int block, const Run &run, const First &first,
                             const Rest &...rest) {
  if constexpr (sizeof...(Rest) > 0)
    if (block >= warpgroupBlocks<First>()) {
      runSegment(block - warpgroupBlocks<First>(), run, rest...);
      return;
    }
  run(first, block);
}

/// All tiles of the segments, dealt to the blocks of the grid: those of one row
/// block, which share their weights, run beside each other.
template <WarpgroupShape kShape, bool kCopies, class... Segments>
LATHE_DEVICE void warpgroupTiles(const LatheLaunch &ctx,
                                 const Segments &...segments) {
  WarpgroupRings<kShape> rings;
  const int tokens = ctx.step->tokens;
  const int tokenTiles = ceilDiv(tokens, kShape.tokens);
  const int tiles = (warpgroupBlocks<Segments>() + ...) * tokenTiles;
#pragma unroll 1
  for (int i = blockX(); i < tiles; i += gridX()) {
    const int rowBlock = i / tokenTiles;
    const int firstToken = i % tokenTiles * kShape.tokens;
    WarpgroupRows from;
    int kind;
    runSegment(
        rowBlock,
        [&]<class S>(const S &segment, int block) {
          from = {{segment.weights[0], segment.weights[S::kWeights - 1]},
                  block * (kWarpgroupTiles / S::kWeights),
                  S::kTiles};
          kind = kindOf<S>();
        },
        segments...);
    WarpgroupSums<kShape> sums;
    runKind(
        kind,
        [&]<class S>(const S &) {
          WarpgroupTile<kShape, S::kPacking, S::kWeights> tile(from, rings);
          if constexpr (kCopies)
            tile.copy(ctx.scratch + kShape.place(firstToken, 0, 0));
          else
            tile.multiply(sums);
        },
        segments...);
    if constexpr (!kCopies)
      runSegment(
          rowBlock,
          [&]<class S>(const S &segment, int) {
            storeSums<kShape>(segment, from, firstToken, tokens, sums);
          },
          segments...);
  }
}

template <WarpgroupShape kShape, class... Segments>
LATHE_DEVICE void matmulWarpgroup(const LatheLaunch &ctx,
                                  const Segments &...segments) {
  if (threadX() == 0)
    WarpgroupRings<kShape>().init();
  syncThreads();
  const int w = warp();
  if (w >= kWarpgroupUsers) {
    giveRegisters<kWarpgroupCopyRegisters>();
    if (w == kWarpgroupUsers)
      warpgroupTiles<kShape, true>(ctx, segments...);
  } else {
    takeRegisters<kWarpgroupUserRegisters>();
    warpgroupTiles<kShape, false>(ctx, segments...);
  }
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATMUL_WARPGROUP_CUH
