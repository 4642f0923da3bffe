//===- rms.cuh - inverse root mean squares of rows -------------*- CUDA -*-===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_RMS_CUH
#define LATHE_COMPILER_DEVICE_CUDA_RMS_CUH

#include "compiler/device/cuda/team.cuh"

namespace lathe {

/// Of whole rows: every thread has columns of every token, so that all loads
/// are under way at once.
template <int kTokens, int kWidth, class Team, class F>
LATHE_DEVICE void rmsScalesOfRows(Team team, float eps, float *out,
                                  float *partial, F f) {
  const int warps = team.size() / 32;
  const int w = warp(); // all lanes take part in finding it
  float sums[kTokens];
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    float sum = 0.0f;
#pragma unroll 4
    for (int k = team.rank() * 4; k < kWidth; k += team.size() * 4)
      sum = addSquares(sum, fourOf<kWidth>(f, t, k));
    sums[t] = sum;
  }
#pragma unroll
  for (int t = 0; t < kTokens; ++t)
    sums[t] = warpSum(sums[t]);
  if (lane() == 0)
    for (int t = 0; t < kTokens; ++t)
      partial[t * warps + w] = sums[t];
  team.sync();
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    const float sum =
        warpSum(lane() < warps ? partial[t * warps + lane()] : 0.0f);
    if (kTokens == 1 || team.rank() == t)
      out[t] = rsqrt(sum / (float)kWidth + eps);
  }
  if constexpr (kTokens > 1)
    team.sync();
}

/// Of the groups [firstGroup, firstGroup + groups) of every row: some lanes
/// have a group, and a warp loads several times as many before it adds.
template <int kTokens, int kWidth, int kGroup, class Team, class F>
LATHE_DEVICE void rmsScalesOfGroups(Team team, float eps, float *out, F f,
                                    int firstGroup, int groups) {
  constexpr int kLanes = kGroup % 128 == 0  ? 32
                         : kGroup % 64 == 0 ? 16
                         : kGroup % 32 == 0 ? 8
                                            : 4;
  constexpr int kEach = 32 / kLanes, kAhead = 4;
  static_assert(kGroup % (4 * kLanes) == 0);
  const int warps = team.size() / 32, member = lane() % kLanes * 4;
  for (int base = warp() * kEach + lane() / kLanes;
       base - lane() / kLanes < kTokens * groups;
       base += warps * kEach * kAhead) {
    float sums[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int i = base + a * warps * kEach;
      sums[a] = 0.0f;
      if (i < kTokens * groups)
        for (int k = member; k < kGroup; k += kLanes * 4)
          sums[a] = addSquares(
              sums[a], fourOf<kWidth>(f, i / groups,
                                      (firstGroup + i % groups) * kGroup + k));
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
#pragma unroll
      for (int mask = kLanes / 2; mask > 0; mask /= 2)
        sums[a] += shuffleXor(sums[a], mask);
      const int i = base + a * warps * kEach;
      if (member == 0 && i < kTokens * groups)
        out[i / groups * (kWidth / kGroup) + firstGroup + i % groups] =
            rsqrt(sums[a] / (float)kGroup + eps);
    }
  }
}

/// Inverse root mean squares per token and group of columns, computed by the
/// team in an order that depends on nothing but the token and the team's size,
/// for columns [first, first + count) at least. `f(t, k)` is the value to be
/// normalised; `partial` has room for a float per warp and token. `out`
/// [t][group] is a thread's own where it is a single number, else the team's in
/// shared memory.
template <int kTokens, int kWidth, int kGroup, class Team, class F>
LATHE_DEVICE void rmsScales(Team team, float eps, float *out, float *partial,
                            F f, int first = 0, int count = kWidth) {
  if constexpr (kWidth == kGroup) {
    rmsScalesOfRows<kTokens, kWidth>(team, eps, out, partial, f);
  } else {
    int end = first + count < kWidth ? first + count : kWidth;
    int firstGroup = first / kGroup;
    int groups = (end + kGroup - 1) / kGroup - firstGroup;
    if (groups > 0)
      rmsScalesOfGroups<kTokens, kWidth, kGroup>(team, eps, out, f, firstGroup,
                                                 groups);
    team.sync();
  }
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_RMS_CUH
