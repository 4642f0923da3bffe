//===- MixerBench.cpp - timings of the CPU mixer kernels ------------------===//
//
// Prints microseconds per layer of a decode step and per token and layer of
// a 512-token prompt, for the Gated-DeltaNet and attention kernels at the
// shapes of Qwen3.5-0.8B and 27B. Every layer has its own state and cache, so
// decode pays for the memory traffic that a model would.
//
// Usage: mixer_bench [threads]; compile with -O2 -march=native.
//
//===----------------------------------------------------------------------===//

#include "compiler/device/cpu/attention_decode.h"
#include "compiler/device/cpu/attention_prefill.h"
#include "compiler/device/cpu/delta_chunk.h"
#include "compiler/device/cpu/delta_step.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <thread>
#include <vector>

using namespace lathe;

namespace {

#ifndef LATHE_BENCH_CHUNK
#define LATHE_BENCH_CHUNK 32
#endif

template <int kHv> struct DeltaCfg {
  static constexpr int kKeyHeads = 16, kValueHeads = kHv, kKeyDim = 128,
                       kValueDim = 128, kTaps = 4;
  static constexpr float kQkEps = 1e-6f, kQScale = 0.08838834764f;
  static constexpr int kChunk = LATHE_BENCH_CHUNK;
  static constexpr bool kReplay = false;
};

template <int kH, int kHkv> struct AttentionCfg {
  static constexpr int kHeads = kH, kKvHeads = kHkv, kHeadDim = 256,
                       kRotaryDim = 64;
  static constexpr int kQHeadStride = 512, kQStride = kH * 512;
  static constexpr int kKStride = kHkv * 256, kVStride = kHkv * 256;
  static constexpr int kOutStride = kH * 256;
  static constexpr float kScale = 0.0625f, kNormEps = 1e-6f;
  static constexpr bool kQkNorm = true, kNormPlusOne = true;
  using Kv = float;
  static constexpr float kInvFreq[kRotaryDim / 2] = {1.0f, 0.6f, 0.36f};
};

using Floats = std::vector<float>;

/// Values around zero, from a linear congruential generator.
Floats noise(size_t count, float scale = 1.0f) {
  static u32 seed = 1;
  Floats v(count);
  for (float &x : v)
    x = ((float)((seed = seed * 1664525 + 1013904223) >> 8) * 0x1p-23f - 1) *
        scale;
  return v;
}

/// Threads that stay for a whole measurement.
struct Team {
  int threads;
  long long localBytes;

  /// Mean seconds of a layer's kernel, each layer at its fastest of `rounds`
  /// rounds over all of them, so that a preempted call does not count.
  double fastest(int layers, int rounds, LatheContext base,
                 const std::function<void(const LatheContext *, int)> &run) {
    using Clock = std::chrono::steady_clock;
    LatheBarrier shared = {};
    std::vector<double> best(layers, 1e30);
    auto work = [&](int thread) {
      LatheContext ctx = base;
      ctx.thread = thread;
      ctx.threads = threads;
      ctx.local = std::aligned_alloc(64, (localBytes + 63) / 64 * 64);
      ctx.barrier = &shared;
      barrier(&ctx);
      for (int i = 0; i < rounds * layers; ++i) {
        Clock::time_point start = Clock::now();
        run(&ctx, i % layers);
        barrier(&ctx);
        std::chrono::duration<double> took = Clock::now() - start;
        if (thread == 0)
          best[i % layers] = std::min(best[i % layers], took.count());
      }
      std::free(ctx.local);
    };
    std::vector<std::thread> team;
    for (int i = 1; i < threads; ++i)
      team.emplace_back(work, i);
    work(0);
    for (std::thread &t : team)
      t.join();
    return std::accumulate(best.begin(), best.end(), 0.0) / layers;
  }
};

template <class Cfg>
void benchDelta(const char *name, int threads, int layers) {
  using D = DeltaDims<Cfg>;
  constexpr DeltaShape shape = D::shape(Cfg::kChunk);
  constexpr int kTokens = 512;
  size_t stateSize = (size_t)Cfg::kValueHeads * D::kK * D::kV;
  size_t convSize = (size_t)(Cfg::kTaps - 1) * D::kChannels;
  Floats qkv = noise((size_t)kTokens * D::kInStride),
         a = noise(kTokens * D::kGateStride), b = a,
         weight = noise(Cfg::kTaps * D::kChannels, 0.5f),
         gates = noise(Cfg::kValueHeads), conv(layers * convSize),
         state(layers * stateSize), out((size_t)kTokens * D::kOutStride);
  auto run = [&](bool step) {
    return [&, step](const LatheContext *ctx, int layer) {
      (step ? deltaStep<Cfg, 8>
            : deltaChunk<Cfg>)(ctx, qkv.data(), a.data(), b.data(),
                               weight.data(), gates.data(), gates.data(),
                               conv.data() + layer * convSize,
                               state.data() + layer * stateSize, out.data());
    };
  };
  LatheContext ctx = {};
  Team team{threads, std::max(deltaStepScratch(shape, 8).bytes,
                              deltaChunkScratch(shape).bytes)};
  for (int tokens : {1, 4, 8}) {
    ctx.tokens = tokens;
    double us = team.fastest(layers, 40, ctx, run(true)) * 1e6;
    std::printf("%s delta decode, %d tokens: %.1f us per layer, %.1f GB/s\n",
                name, tokens, us, stateSize * 8e-3 / us);
  }
  ctx.tokens = kTokens;
  double us = team.fastest(1, 12, ctx, run(false)) * 1e6 / kTokens;
  std::printf("%s delta prefill: %.2f us per token and layer, %.3f ms per "
              "token over %d layers\n",
              name, us, us * layers * 1e-3, layers);
}

template <class Cfg>
void benchAttention(const char *name, int threads, int layers) {
  constexpr AttentionShape shape = AttentionDims<Cfg>::shape();
  constexpr int kTokens = 512, kCapacity = 4096 + 8;
  size_t cacheSize = (size_t)Cfg::kKvHeads * kCapacity * Cfg::kHeadDim;
  Floats q = noise((size_t)kTokens * Cfg::kQStride),
         k = noise((size_t)kTokens * Cfg::kKStride), v = k,
         norm = noise(Cfg::kHeadDim, 0.2f), kCache(layers * cacheSize, 0.01f),
         vCache = kCache, out((size_t)kTokens * Cfg::kOutStride);
  auto run = [&](bool decode) {
    return [&, decode](const LatheContext *ctx, int layer) {
      (decode ? attentionDecode<Cfg, 8>
              : attentionPrefill<Cfg>)(ctx, q.data(), k.data(), v.data(),
                                       norm.data(), norm.data(),
                                       kCache.data() + layer * cacheSize,
                                       vCache.data() + layer * cacheSize,
                                       out.data());
    };
  };
  LatheContext ctx = {};
  ctx.capacity = kCapacity;
  Team team{threads, std::max(attentionDecodeScratch(shape, 8).bytes,
                              attentionPrefillScratch(shape).bytes)};
  for (int position : {128, 1024, 4096})
    for (int tokens : {1, 4}) {
      ctx.tokens = tokens;
      ctx.position = position;
      double us = team.fastest(layers, 40, ctx, run(true)) * 1e6;
      std::printf("%s attention decode, %d tokens at %d: %.1f us per layer, "
                  "%.1f GB/s\n",
                  name, tokens, position, us,
                  Cfg::kKvHeads * Cfg::kHeadDim * position * 8e-3 / us);
    }
  ctx.tokens = kTokens;
  ctx.position = 0;
  double us = team.fastest(1, 12, ctx, run(false)) * 1e6 / kTokens;
  std::printf("%s attention prefill: %.2f us per token and layer, %.3f ms per "
              "token over %d layers\n",
              name, us, us * layers * 1e-3, layers);
}

} // namespace

int main(int argc, char **argv) {
  int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  std::printf("%d threads\n", threads);
  benchDelta<DeltaCfg<16>>("0.8B", threads, 18);
  benchDelta<DeltaCfg<48>>("27B", threads, 48);
  benchAttention<AttentionCfg<8, 2>>("0.8B", threads, 6);
  benchAttention<AttentionCfg<24, 4>>("27B", threads, 16);
}
