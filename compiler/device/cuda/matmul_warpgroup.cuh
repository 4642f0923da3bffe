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

/// A warp's sums of a segment's rows `from` through the epilogue, kTogether
/// sums of each tile at a time.
template <WarpgroupShape kShape, int kOutputs, int kTogether, class S>
LATHE_DEVICE void storeSums(const S &segment, WarpgroupRows from,
                            int firstToken, int tokens,
                            const WarpgroupSums<kShape> &sums) {
  constexpr float kUnscale =
      1.0f / operandScale(S::kPacking) / kActivationScale;
  constexpr int kTiles = 3 - S::kWeights;
  const int place = firstPlace(), column = firstToken + lane() % 4 * 2;
  float by[2][2];
#pragma unroll
  for (int m = 0; m < 2; ++m)
#pragma unroll
    for (int lower = 0; lower < 2; ++lower)
      by[m][lower] = sums.scale[m][lower] * kUnscale *
                     *(const float *)segment.weights[S::kWeights == 2 && m];
#pragma unroll
  for (int first = 0; first < sums.kCount; first += kTogether) {
    LaterStores<kTogether * kTiles * kOutputs> later;
    bool exists[kTogether * kTiles];
    int ends[kTogether * kTiles]; // of the stores so far
#pragma unroll
    for (int j = 0; j < kTogether * kTiles; ++j) {
      const int i = first + j / kTiles, m = j % kTiles, lower = i >> 1 & 1;
      const int tile = from.first + tileAt<S::kWeights>(place + 4 * m);
      int t = column + i / 4 * 8 + (i & 1);
      int row = tile * 16 + lane() / 4 + 8 * lower;
      // Those that do not exist read what another does.
      exists[j] = t < tokens && row < S::kRows;
      t = t < tokens ? t : tokens - 1;
      row = row < S::kRows ? row : S::kRows - 1;
      if constexpr (S::kWeights == 2)
        segment.epilogue(t, row, by[0][lower] * sums.sums[0][i],
                         by[1][lower] * sums.sums[1][i], later);
      else
        segment.epilogue(t, row, by[m][lower] * sums.sums[m][i], later);
      ends[j] = later.count;
    }
#pragma unroll
    for (int j = 0, s = 0; j < kTogether * kTiles; ++j)
#pragma unroll
      for (; s < ends[j]; ++s)
        if (exists[j])
          *later.to[s] = later.value[s];
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
template <WarpgroupShape kShape, int kOutputs, bool kCopies, class... Segments>
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
    // Registers allow for more where there is but one epilogue.
    constexpr int kTogether = sizeof...(Segments) > 1 ? 4 : 8;
    if constexpr (!kCopies)
      runSegment(
          rowBlock,
          [&]<class S>(const S &segment, int) {
            storeSums<kShape, kOutputs, kTogether>(segment, from, firstToken,
                                                   tokens, sums);
          },
          segments...);
  }
}

/// The entry's body; kOutputs: the most that an epilogue stores.
template <WarpgroupShape kShape, int kOutputs, class... Segments>
LATHE_DEVICE void matmulWarpgroup(const LatheLaunch &ctx,
                                  const Segments &...segments) {
  if (threadX() == 0)
    WarpgroupRings<kShape>().init();
  syncThreads();
  const int w = warp();
  if (w >= kWarpgroupUsers) {
    giveRegisters<kWarpgroupCopyRegisters>();
    if (w == kWarpgroupUsers)
      warpgroupTiles<kShape, kOutputs, true>(ctx, segments...);
  } else {
    takeRegisters<kWarpgroupUserRegisters>();
    warpgroupTiles<kShape, kOutputs, false>(ctx, segments...);
  }
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATMUL_WARPGROUP_CUH
