//===- LinearBench.cpp - speed of the CPU linear kernels --------*- C++ -*-===//
//
// Prints, for the shapes of Qwen3.5-0.8B:
//   decode   GB/s of packed weights, and the percentage of the read bandwidth
//            that a plain summing loop reached just before, on as many threads
//   prefill  GOP/s (two operations per multiply-add) at 256 tokens
// Every repetition uses another copy of the weights, more than 256 MB in all,
// so that they come from memory and not from a cache.
//
//   linear_bench [substring of a line to run]
//
//===----------------------------------------------------------------------===//

#include "compiler/device/cpu/linear.h"
#include "runtime/base/Float.h"
#include "runtime/memory/PackCpu.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace lathe;

constexpr int64_t kRotation = 256ll << 20;
constexpr int kLaunches = 200;

/// Zeroed pages that live as long as the process; large ones, as the runtime
/// asks for.
uint8_t *pages(int64_t bytes) {
  const int64_t huge = 2 << 20;
  bytes = (bytes + huge - 1) / huge * huge + 4096;
  void *p = std::aligned_alloc(size_t(huge), size_t(bytes + huge - 4096));
  madvise(p, size_t(bytes), MADV_HUGEPAGE);
  std::memset(p, 0, size_t(bytes));
  return static_cast<uint8_t *>(p);
}

/// Seconds of one launch: fn(ctx, n) runs on all threads for launches n = 0,
/// 1, ..., each between two barriers. The fastest 5 % of the launches count,
/// because other processes share the machine.
template <class Fn>
double measureLaunches(LatheContext ctx, const std::vector<uint8_t *> &locals,
                       int launches, Fn fn) {
  LatheBarrier meeting = {};
  ctx.barrier = &meeting;
  using Clock = std::chrono::steady_clock;
  struct Span {
    Clock::time_point begin, end;
  };
  std::vector<std::vector<Span>> spans(size_t(ctx.threads));
  std::vector<std::thread> team;
  for (int i = 0; i < ctx.threads; ++i)
    team.emplace_back([&, i] {
      LatheContext mine = ctx;
      mine.thread = i;
      mine.local = locals[size_t(i)];
      for (int n = 0; n < launches; ++n) {
        barrier(&mine);
        Clock::time_point begin = Clock::now();
        fn(&mine, n);
        spans[size_t(i)].push_back({begin, Clock::now()});
      }
    });
  for (std::thread &t : team)
    t.join();
  // From the first thread that began to the last that ended.
  std::vector<double> times;
  for (int n = 0; n < launches; ++n) {
    Span all = spans[0][size_t(n)];
    for (const std::vector<Span> &s : spans) {
      all.begin = std::min(all.begin, s[size_t(n)].begin);
      all.end = std::max(all.end, s[size_t(n)].end);
    }
    times.push_back(std::chrono::duration<double>(all.end - all.begin).count());
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 20];
}

/// Bytes per second that `threads` threads read from memory.
double readBandwidth(int threads) {
  static uint8_t *data = pages(kRotation);
  constexpr int64_t chunk = 8 << 20;
  LatheContext ctx = {};
  ctx.threads = threads;
  double seconds =
      measureLaunches(ctx, std::vector<uint8_t *>(size_t(threads)), kLaunches,
                      [&](const LatheContext *c, int n) {
                        const uint8_t *from = data +
                                              n % (kRotation / chunk) * chunk +
                                              chunk / threads * c->thread;
                        const float *p = reinterpret_cast<const float *>(from);
                        f32x16 acc[4] = {};
                        for (int64_t k = 0; k < chunk / 4 / threads; k += 64)
                          for (int j = 0; j < 4; ++j)
                            acc[j] += load(p + k + 16 * j);
                        float total = sum(acc[0] + acc[1] + acc[2] + acc[3]);
                        asm volatile("" ::"x"(total));
                      });
  return double(chunk) / seconds;
}

template <class F> WeightDesc descOf(int rows, int columns);
template <> WeightDesc descOf<Int4<128>>(int rows, int columns) {
  return {WeightFormat::Int4, rows, columns, 128, false};
}
template <> WeightDesc descOf<Int4<32>>(int rows, int columns) {
  return {WeightFormat::Int4, rows, columns, 32, false};
}
template <> WeightDesc descOf<NvFp4>(int rows, int columns) {
  return {WeightFormat::NvFp4, rows, columns, 16, false};
}
template <> WeightDesc descOf<Bf16>(int rows, int columns) {
  return {WeightFormat::BF16, rows, columns, 0, false};
}

HostWeight randomWeight(const WeightDesc &desc) {
  HostWeight w;
  w.desc = desc;
  std::mt19937 rng(1);
  const size_t count = size_t(desc.rows * desc.cols);
  if (desc.format == WeightFormat::BF16) {
    w.data.resize(2 * count);
    for (size_t i = 0; i < count; ++i) {
      uint16_t h = floatToBf16(float(int(rng() % 2001) - 1000) * 1e-3f);
      std::memcpy(&w.data[2 * i], &h, 2);
    }
    return w;
  }
  w.data.resize(count / 2);
  for (uint8_t &b : w.data)
    b = uint8_t(rng());
  w.scales.assign(count / size_t(desc.group), floatToF16(0.01f));
  w.blockScales.assign(count / size_t(desc.group), uint8_t(0x38));
  return w;
}

/// `Weights` = 2 is the SwiGLU pair.
template <class F, int N, int Weights, class In>
void kernel(void *const *args, const LatheContext *ctx) {
  constexpr int K = In::kColumns;
  In in(ctx);
  for (int t = in.begin(); t < in.end(); t += in.step()) {
    const float *x = (const float *)args[0] + t * strideOf(K);
    float r = rmsScale<K>(x, 1e-6f);
    in.template fill<0, K>(t, [&](int k) { return load(x + k) * r; });
  }
  in.ready();
  float *out = (float *)args[1];
  Split<(long long)N * K> split(ctx);
  if constexpr (Weights == 1)
    linear<F, N>(in, split.range(0), args[2], [&](int t, int row, f32x16 y) {
      store(out + t * strideOf(N) + row, y);
    });
  else
    linear2<F, N>(in, split.range(0), args[2], args[3],
                  [&](int t, int row, f32x16 a, f32x16 b) {
                    store(out + t * strideOf(N) + row, silu(a) * b);
                  });
}

const char *filter = "";

struct Timing {
  double seconds; ///< per launch
  double bytes;   ///< weights of one launch
};

template <class F, int N, int Weights, class In>
Timing measure(int tokens, int threads, int launches) {
  constexpr int K = In::kColumns;
  const WeightDesc desc = descOf<F>(N, K);
  const int64_t each = packedBytes(desc), bytes = each * Weights;
  const int copies = int(std::max<int64_t>(1, kRotation / bytes));
  uint8_t *weights = pages(bytes * copies);
  packRows(randomWeight(desc), 0, tileCount(desc), weights);
  for (int i = 1; i < copies * Weights; ++i)
    std::memcpy(weights + i * each, weights, size_t(each));
  uint8_t *x = pages(int64_t(tokens) * strideOf(K) * 4);
  uint8_t *out = pages(int64_t(tokens) * strideOf(N) * 4);
  for (int i = 0; i < tokens * strideOf(K); ++i)
    reinterpret_cast<float *>(x)[i] = float(i * 37 % 101 - 50);
  uint8_t *shared = pages(In::sharedBytes() + 64);
  std::vector<uint8_t *> locals;
  for (int i = 0; i < threads; ++i)
    locals.push_back(pages(In::localBytes() + 64));
  LatheContext ctx = {};
  ctx.threads = threads;
  ctx.tokens = tokens;
  ctx.shared = shared;
  double seconds =
      measureLaunches(ctx, locals, launches, [&](const LatheContext *c, int n) {
        uint8_t *w = weights + n % copies * bytes;
        void *args[] = {x, out, w, w + each};
        kernel<F, N, Weights, In>(args, c);
      });
  for (uint8_t *p : {weights, x, out, shared})
    std::free(p);
  for (uint8_t *p : locals)
    std::free(p);
  return {seconds, double(bytes)};
}

template <class F, int N, int K, int Weights, int T>
void decode(const char *format) {
  constexpr int forms = F::kQuantized ? kInt15 : kF32;
  using In = Input<K, T, forms, 128, false>;
  char line[160];
  std::snprintf(line, sizeof line, "decode  %-6s T=%d %6dx%-5d%s", format, T, N,
                K, Weights == 2 ? " x2" : "   ");
  if (!std::strstr(line, filter))
    return;
  std::printf("%s", line);
  for (int threads : {1, 2}) {
    double peak = readBandwidth(threads);
    Timing t =
        measure<F, N, Weights, In>(T, threads, N > 100000 ? 20 : kLaunches);
    double rate = t.bytes / t.seconds;
    std::printf("  | %d thr %8.1f us %6.1f GB/s of %5.1f = %3.0f %%", threads,
                t.seconds * 1e6, rate * 1e-9, peak * 1e-9, 100 * rate / peak);
    std::fflush(stdout);
  }
  std::printf("\n");
}

template <class F, int N, int K, int Weights, int Forms, int Group>
void prefill(const char *format) {
  constexpr int T = 256;
  using In = Input<K, T, Forms, Group, true>;
  char line[160];
  std::snprintf(line, sizeof line, "prefill %-6s %s/%-3d %6dx%-5d%s", format,
                Forms == kF32     ? "f32  "
                : Forms == kInt15 ? "int15"
                                  : "int8 ",
                Group, N, K, Weights == 2 ? " x2" : "   ");
  if (!std::strstr(line, filter))
    return;
  std::printf("%s", line);
  for (int threads : {1, 2}) {
    Timing t = measure<F, N, Weights, In>(T, threads, 20);
    double operations = 2.0 * N * K * Weights * T;
    std::printf("  | %d thr %8.2f ms %7.1f GOP/s", threads, t.seconds * 1e3,
                operations / t.seconds * 1e-9);
    std::fflush(stdout);
  }
  std::printf("\n");
}

template <class F> void decodeShapes(const char *format) {
  decode<F, 6144, 1024, 1, 1>(format);
  decode<F, 1024, 2048, 1, 1>(format);
  decode<F, 3584, 1024, 2, 1>(format);
  decode<F, 1024, 3584, 1, 1>(format);
  decode<F, 248320, 1024, 1, 1>(format);
  decode<F, 6144, 1024, 1, 2>(format);
  decode<F, 6144, 1024, 1, 4>(format);
  decode<F, 6144, 1024, 1, 8>(format);
}

template <class F, int Forms, int Group>
void prefillShapes(const char *format) {
  prefill<F, 6144, 1024, 1, Forms, Group>(format);
  prefill<F, 1024, 2048, 1, Forms, Group>(format);
  prefill<F, 3584, 1024, 2, Forms, Group>(format);
  prefill<F, 1024, 3584, 1, Forms, Group>(format);
}

} // namespace

int main(int argc, char **argv) {
  if (argc > 1)
    filter = argv[1];
  decodeShapes<Int4<128>>("int4");
  decodeShapes<Int4<32>>("int4-32");
  decodeShapes<NvFp4>("nvfp4");
  decodeShapes<Bf16>("bf16");
  prefillShapes<Int4<128>, kInt8, 128>("int4");
  prefillShapes<Int4<128>, kInt8, 64>("int4");
  prefillShapes<Int4<128>, kInt8, 32>("int4");
  prefillShapes<Int4<128>, kInt15, 128>("int4");
  prefillShapes<Int4<32>, kInt8, 128>("int4-32");
  prefillShapes<NvFp4, kInt8, 128>("nvfp4");
  prefillShapes<NvFp4, kInt15, 128>("nvfp4");
  prefillShapes<Bf16, kF32, 0>("bf16");
  return 0;
}
