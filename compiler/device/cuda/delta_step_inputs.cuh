//===- delta_step_inputs.cuh - what deltaStep starts from ------*- CUDA -*-===//
//
// The part of delta_step.cuh before the recurrence: a team's part of the
// problem, the convolution of its channels, the norms and the gates.
//
// Every load is issued before the first result is needed, and whatever this
// step does not write (weights, the ring) before its inputs are there.
//
// Rows hold q and k as they were convolved. Their norms are factors, so that
// they are found while the first products with the state are under way.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_DELTA_STEP_INPUTS_CUH
#define LATHE_COMPILER_DEVICE_CUDA_DELTA_STEP_INPUTS_CUH

#include "compiler/device/cuda/delta.cuh"

namespace lathe {

template <class Cfg> struct DeltaStepDims : DeltaDims<Cfg> {
  using D = DeltaDims<Cfg>;
  static constexpr int kTokens = Cfg::kTokens;
  static constexpr int kRows = deltaStepRows(D::shape(), kTokens);
  static constexpr int kTeam = deltaStepTeam(D::shape()); ///< slices
  static constexpr int kTeams = deltaStepTeams(D::shape());
  static constexpr int kThreads = deltaStepThreads(D::shape());
  static constexpr int kWarps = kThreads / 32, kSliceWarps = kDeltaStepWarps;
  static constexpr int kColumns = kDeltaStepColumns;
  static constexpr int kSlicesPerHead = D::kV / kColumns;
  static constexpr int kTeamsPerKeyHead = D::kRatio * kSlicesPerHead / kTeam;
  static constexpr int kWidth = deltaStepWidth(D::shape());
  /// Threads convolve pairs of channels.
  static constexpr int kPairs = kWidth / 2;
  static constexpr int kPasses = ceilDiv(kPairs, kThreads);
  static constexpr int kLanes = kColumns / 4; ///< threads per key
  static constexpr int kKeyGroups = kSliceWarps * 32 / kLanes;
  static constexpr int kKeys = D::kK / kKeyGroups; ///< of a thread
  static_assert(D::kK % kKeyGroups == 0);
  static_assert(kTokens >= 1 && kTokens <= 8);
  static_assert(kRows >= kTokens && kRows * kTeam <= 32,
                "a lane per token and slice");
  static_assert(kTokens + (Cfg::kReplay ? kRows : 0) + D::kTaps - 1 <=
                D::kRing);
};

/// Factors of a token: of its k, its q, and of d in the output.
struct alignas(16) DeltaNorms {
  float key, query, dot, unused;
};

/// Which part of the problem a team has, and its memory.
struct DeltaStepTeam {
  int firstSlice, keyHead;
  bool ownsKeys;     ///< keeps the inputs of its key head's q and k
  int thread, warp;  ///< of the team
  float *rows;       ///< [token][q, k, v]
  DeltaNorms *norms; ///< [token]
  DeltaGates *gates; ///< [token][slice]
  float *partials;   ///< [buffer][slice][warp][with k, with q][column]
};

template <class D>
LATHE_DEVICE DeltaStepTeam deltaStepTeamOf(int number, int thread, int warp,
                                           char *shared) {
  float *rows = (float *)shared;
  auto *norms = (DeltaNorms *)(rows + D::kRows * D::kWidth);
  auto *gates = (DeltaGates *)(norms + D::kRows);
  return {number * D::kTeam,
          number / D::kTeamsPerKeyHead,
          number % D::kTeamsPerKeyHead == 0,
          thread,
          warp,
          rows,
          norms,
          gates,
          (float *)(gates + 2 * D::kRows * D::kTeam)};
}

/// What a thread convolves, and what makes a slice's gates.
template <class Cfg> struct DeltaStepInputs {
  using D = DeltaStepDims<Cfg>;
  static constexpr int kBefore = D::kTaps - 1;

  Float2 weight[D::kPasses][D::kTaps], in[D::kPasses][kBefore + D::kTokens];
  float a, b, aLog, dtBias; ///< of a token and slice, in the last warp

  /// Two channels beside each other. Threads beyond the row repeat its last.
  struct Pair {
    int at, channel; ///< at: in the row
    bool exists;
  };
  static LATHE_DEVICE_MEMBER Pair pairOf(const DeltaStepTeam &team, int pass) {
    int number = pass * D::kThreads + team.thread;
    const bool exists = number < D::kPairs;
    const int at = 2 * (exists ? number : D::kPairs - 1);
    const int q = D::query(team.keyHead) + at;
    const int k = D::key(team.keyHead) + at - D::kK;
    const int v = D::value(0) + team.firstSlice * D::kColumns + at - 2 * D::kK;
    return {at, at < D::kK ? q : at < 2 * D::kK ? k : v, exists};
  }
  /// Slice and token whose gates a lane makes; the last lanes repeat the first.
  static LATHE_DEVICE_MEMBER int gateNumber() {
    return lane() < D::kTokens * D::kTeam ? lane() : 0;
  }
  static LATHE_DEVICE_MEMBER int gateHead(const DeltaStepTeam &team) {
    return (team.firstSlice + gateNumber() % D::kTeam) / D::kSlicesPerHead;
  }

  /// The inputs that this step does not write.
  LATHE_DEVICE_MEMBER void loadPast(const DeltaArgs &args,
                                    const DeltaStepTeam &team, int position) {
#pragma unroll
    for (int p = 0; p < D::kPasses; ++p) {
      const int channel = pairOf(team, p).channel;
#pragma unroll
      for (int j = 0; j < kBefore; ++j)
        in[p][j] = loadFresh(
            (const Float2 *)(ringRow<Cfg>(args, position - kBefore + j) +
                             channel));
#pragma unroll
      for (int j = 0; j < D::kTaps; ++j)
        weight[p][j] =
            *(const Float2 *)(args.convWeight + j * D::kChannels + channel);
    }
    aLog = args.aLog[gateHead(team)];
    dtBias = args.dtBias[gateHead(team)];
  }

  /// The others.
  LATHE_DEVICE_MEMBER void load(const DeltaArgs &args,
                                const DeltaStepTeam &team) {
#pragma unroll
    for (int p = 0; p < D::kPasses; ++p)
#pragma unroll
      for (int t = 0; t < D::kTokens; ++t)
        in[p][kBefore + t] =
            loadFresh((const Float2 *)(args.qkv + t * D::kInStride +
                                       pairOf(team, p).channel));
    const int gate = gateNumber() / D::kTeam * D::kGateStride + gateHead(team);
    a = loadFresh(args.a + gate);
    b = loadFresh(args.b + gate);
  }

  /// Leaves the convolved rows and the gates.
  LATHE_DEVICE_MEMBER void convolveRows(const DeltaStepTeam &team) const {
#pragma unroll
    for (int p = 0; p < D::kPasses; ++p) {
      const Pair own = pairOf(team, p);
#pragma unroll
      for (int t = 0; t < D::kTokens; ++t) {
        const Float2 y = convolved(in[p] + t, weight[p]);
        if (own.exists)
          *(Float2 *)(team.rows + t * D::kWidth + own.at) = y;
      }
    }
    if (team.warp == D::kWarps - 1) {
      const DeltaGates gates = deltaGates(a, b, aLog, dtBias);
      if (lane() < D::kTokens * D::kTeam)
        team.gates[lane()] = gates;
    }
  }

  /// Leaves the rows and the gates of the `count` tokens before `position`,
  /// which this step does not write. Call after loadPast().
  LATHE_DEVICE_MEMBER void convolvePending(const DeltaArgs &args,
                                           const DeltaStepTeam &team,
                                           int position, int count) const {
    const int first = position - count;
#pragma unroll
    for (int p = 0; p < D::kPasses; ++p) {
      const Pair own = pairOf(team, p);
      Float2 x[kBefore + D::kRows];
#pragma unroll
      for (int j = 0; j < kBefore + D::kRows; ++j) {
        const float *row = ringRow<Cfg>(args, first - kBefore + j);
        x[j] = j < kBefore + count
                   ? loadFresh((const Float2 *)(row + own.channel))
                   : Float2{};
      }
#pragma unroll
      for (int t = 0; t < D::kRows; ++t) {
        const Float2 y = convolved(x + t, weight[p]);
        if (own.exists && t < count)
          *(Float2 *)(team.rows + t * D::kWidth + own.at) = y;
      }
    }
    if (team.warp == D::kWarps - 1) {
      const int number = lane() < count * D::kTeam ? lane() : 0;
      const int head =
          (team.firstSlice + number % D::kTeam) / D::kSlicesPerHead;
      const float *ring = ringGates<Cfg>(args, first + number / D::kTeam, head);
      const DeltaGates gates{loadFresh(ring), loadFresh(ring + D::kGateStride)};
      if (lane() < count * D::kTeam)
        team.gates[lane()] = gates;
    }
  }

  /// With replay: keeps the gates of this step's tokens, which are in `team`.
  LATHE_DEVICE_MEMBER void keepGates(const DeltaArgs &args,
                                     const DeltaStepTeam &team,
                                     int position) const {
    const int number = gateNumber(), own = team.firstSlice + number % D::kTeam;
    float *ring = ringGates<Cfg>(args, position + number / D::kTeam,
                                 own / D::kSlicesPerHead);
    const DeltaGates gates = team.gates[number];
    if (team.warp == D::kWarps - 1 && own % D::kSlicesPerHead == 0) {
      ring[0] = gates.beta;
      ring[D::kGateStride] = gates.decay;
    }
  }

  /// Keeps the inputs of this step's tokens; one team does for each channel.
  LATHE_DEVICE_MEMBER void keep(const DeltaArgs &args,
                                const DeltaStepTeam &team, int position) const {
#pragma unroll
    for (int p = 0; p < D::kPasses; ++p) {
      const Pair own = pairOf(team, p);
      if (own.exists && (team.ownsKeys || own.at >= 2 * D::kK))
#pragma unroll
        for (int t = 0; t < D::kTokens; ++t)
          *(Float2 *)(ringRow<Cfg>(args, position + t) + own.channel) =
              in[p][kBefore + t];
    }
  }

private:
  /// Two channels of the token whose inputs start at x.
  static LATHE_DEVICE_MEMBER Float2 convolved(const Float2 *x,
                                              const Float2 *w) {
    Float2 sum{x[0].x * w[0].x, x[0].y * w[0].y};
#pragma unroll
    for (int j = 1; j < D::kTaps; ++j)
      sum = {fma(x[j].x, w[j].x, sum.x), fma(x[j].y, w[j].y, sum.y)};
    return {quickSilu(sum.x), quickSilu(sum.y)};
  }
  static LATHE_DEVICE_MEMBER float quickSilu(float x) {
    return x * reciprocal(1.0f + exp(-x));
  }
};

/// The norms of one token, by one warp.
template <class Cfg> LATHE_DEVICE DeltaNorms stepNorms(const float *row) {
  using D = DeltaStepDims<Cfg>;
  float qq = 0, kk = 0, kq = 0;
#pragma unroll
  for (int i = 0; i < ceilDiv(D::kK, 32); ++i) {
    const int at = i * 32 + lane();
    const bool exists = D::kK % 32 == 0 || at < D::kK;
    const float q = exists ? row[at] : 0.0f;
    const float k = exists ? row[D::kK + at] : 0.0f;
    qq = fma(q, q, qq);
    kk = fma(k, k, kk);
    kq = fma(k, q, kq);
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) {
    qq += shuffleXor(qq, mask);
    kk += shuffleXor(kk, mask);
    kq += shuffleXor(kq, mask);
  }
  const float query = rsqrt(qq + Cfg::kQkEps) * Cfg::kQScale;
  const float key = rsqrt(kk + Cfg::kQkEps);
  return {key, query, kq * query * key, 0.0f};
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_DELTA_STEP_INPUTS_CUH
