#include "tests/kernels/cpu/linear/LinearKernels.h"

#include "compiler/device/cpu/gather.h"
#include "compiler/device/cpu/linear.h"

using namespace lathe;

namespace {

template <class Format> struct Traits;
template <> struct Traits<F32> {
  static constexpr TestWeight kWeight = TestWeight::F32;
  static constexpr int kGroup = 0;
  static constexpr bool kAsymmetric = false;
};
template <> struct Traits<F16> : Traits<F32> {
  static constexpr TestWeight kWeight = TestWeight::F16;
};
template <> struct Traits<Bf16> : Traits<F32> {
  static constexpr TestWeight kWeight = TestWeight::Bf16;
};
template <int G, bool A> struct Traits<Int4<G, A>> {
  static constexpr TestWeight kWeight = TestWeight::Int4;
  static constexpr int kGroup = G;
  static constexpr bool kAsymmetric = A;
};
template <> struct Traits<NvFp4> : Traits<F32> {
  static constexpr TestWeight kWeight = TestWeight::NvFp4;
  static constexpr int kGroup = 16;
};

template <class In, int K> void fillPlain(const In &in, const float *x) {
  for (int t = in.begin(); t < in.end(); t += in.step())
    in.template fill<0, K>(
        t, [&](int k) { return load(x + t * strideOf(K) + k); });
  in.ready();
}

template <class Format, int N, class In>
void linearKernel(void *const *args, const LatheContext *ctx) {
  In in(ctx);
  fillPlain<In, In::kColumns>(in, (const float *)args[0]);
  float *out = (float *)args[2];
  Split<1000> split(ctx);
  linear<Format, N>(in, split.range(0), args[1], [&](int t, int row, f32x16 y) {
    store(out + t * strideOf(N) + row, y);
  });
}

template <class Format, int N, class In>
void linear2Kernel(void *const *args, const LatheContext *ctx) {
  In in(ctx);
  fillPlain<In, In::kColumns>(in, (const float *)args[0]);
  float *out = (float *)args[3];
  Split<1000> split(ctx);
  linear2<Format, N>(in, split.range(0), args[1], args[2],
                     [&](int t, int row, f32x16 a, f32x16 b) {
                       store(out + t * strideOf(N) + row, a + 0.5f * b);
                     });
}

template <class Format, int N, class In>
void mixedKernel(void *const *args, const LatheContext *ctx) {
  constexpr int K = In::kColumns;
  In in(ctx);
  const float *norm = (const float *)args[3];
  for (int t = in.begin(); t < in.end(); t += in.step()) {
    const float *x = (const float *)args[0] + t * strideOf(K);
    float r0 = rmsScale<kMixedSplit>(x, 1e-6f);
    float r1[1];
    rmsScales<K - kMixedSplit, K - kMixedSplit>(x + kMixedSplit, 1e-6f, r1);
    in.template fill<0, kMixedSplit>(
        t, [&](int k) { return load(x + k) * r0 * load(norm + k); });
    in.template fill<kMixedSplit, K - kMixedSplit>(t, [&](int k) {
      return load(x + kMixedSplit + k) * r1[0] * load(norm + kMixedSplit + k);
    });
  }
  in.ready();
  constexpr int stride = strideOf(N) + kMixedRows;
  float *out = (float *)args[4];
  Split<N * K / 2, kMixedRows * K * 2> split(ctx);
  linear<Format, N>(in, split.range(0), args[1], [&](int t, int row, f32x16 y) {
    store(out + t * stride + row, y);
  });
  linear<Bf16, kMixedRows>(in, split.range(1), args[2],
                           [&](int t, int row, f32x16 y) {
                             store(out + t * stride + strideOf(N) + row, y);
                           });
}

template <class Format, int K>
void plainGatherKernel(void *const *args, const LatheContext *ctx) {
  gatherRow<Plain<Format>, K>(args[1], ctx->position, (float *)args[2]);
}

template <class Format, int K>
void gatherKernel(void *const *args, const LatheContext *ctx) {
  gatherRow<Format, K>(args[1], ctx->position, (float *)args[2]);
}

template <class Format, int N, class In>
constexpr LinearKernel describe(const char *name, TestKind kind,
                                LatheKernel run, int forms, int inputGroup) {
  using T = Traits<Format>;
  return {name,
          run,
          kind,
          T::kWeight,
          T::kGroup,
          T::kAsymmetric,
          N,
          In::kColumns,
          In::kMaxTokens,
          In::kShared,
          forms,
          inputGroup,
          In::sharedBytes(),
          In::localBytes(),
          Format::tileBytes(In::kColumns)};
}

template <class Format, int N, int K, int T, int Forms, int Group, bool Shared>
constexpr LinearKernel one(const char *name) {
  using In = Input<K, T, Forms, Group, Shared>;
  return describe<Format, N, In>(name, TestKind::Linear,
                                 linearKernel<Format, N, In>, Forms, Group);
}
template <class Format, int N, int K, int T, int Forms, int Group, bool Shared>
constexpr LinearKernel two(const char *name) {
  using In = Input<K, T, Forms, Group, Shared>;
  return describe<Format, N, In>(name, TestKind::Linear2,
                                 linear2Kernel<Format, N, In>, Forms, Group);
}
template <class Format, int N, int K, int T, int Forms, int Group, bool Shared>
constexpr LinearKernel mixed(const char *name) {
  using In = Input<K, T, Forms | kF32, Group, Shared>;
  return describe<Format, N, In>(
      name, TestKind::Mixed, mixedKernel<Format, N, In>, Forms | kF32, Group);
}
template <class Format, int N, int K>
constexpr LinearKernel gather(const char *name) {
  using In = Input<K, 1, kF32, 0, false>;
  return describe<Format, N, In>(name, TestKind::Gather,
                                 gatherKernel<Format, K>, kF32, 0);
}

template <class Format, int N, int K>
constexpr LinearKernel plain(const char *name) {
  using In = Input<K, 1, kF32, 0, false>;
  return describe<Format, N, In>(name, TestKind::PlainGather,
                                 plainGatherKernel<Format, K>, kF32, 0);
}

using Q128 = Int4<128>;
using Z128 = Int4<128, true>;
using Z32 = Int4<32, true>;

#define NAMED(maker, ...) maker<__VA_ARGS__>(#maker "<" #__VA_ARGS__ ">")
#define DECODE(F, N, K, forms, group)                                          \
  NAMED(one, F, N, K, 1, forms, group, false),                                 \
      NAMED(one, F, N, K, 2, forms, group, false),                             \
      NAMED(one, F, N, K, 5, forms, group, false),                             \
      NAMED(one, F, N, K, 8, forms, group, false)

const LinearKernel kKernels[] = {
    DECODE(F32, 40, 100, kF32, 0),
    NAMED(one, F32, 40, 100, 130, kF32, 0, true),
    DECODE(F16, 40, 100, kF32, 0),
    NAMED(one, F16, 40, 100, 130, kF32, 0, true),
    DECODE(Bf16, 87, 100, kF32, 0),
    NAMED(one, Bf16, 87, 100, 130, kF32, 0, true),
    DECODE(Q128, 87, 640, kInt15, 128),
    NAMED(one, Q128, 87, 640, 3, kInt15, 128, false),
    NAMED(one, Q128, 87, 640, 4, kInt15, 128, false),
    NAMED(one, Q128, 87, 640, 6, kInt15, 128, false),
    NAMED(one, Q128, 87, 640, 7, kInt15, 128, false),
    NAMED(one, Q128, 87, 640, 130, kInt15, 128, true),
    NAMED(one, Q128, 87, 640, 130, kInt8, 128, true),
    NAMED(one, Q128, 16, 256, 2, kInt8, 32, false),
    NAMED(one, Q128, 16, 256, 130, kInt8, 32, true),
    NAMED(one, Q128, 33, 256, 2, kInt15, 256, false),
    DECODE(Z128, 40, 256, kInt15, 128),
    NAMED(one, Z128, 40, 256, 130, kInt15, 128, true),
    NAMED(one, Z128, 40, 256, 130, kInt8, 64, true),
    DECODE(Int4<64>, 40, 192, kInt15, 64),
    NAMED(one, Int4<64>, 40, 192, 130, kInt15, 64, true),
    DECODE(Z32, 50, 96, kInt15, 96),
    NAMED(one, Z32, 50, 96, 130, kInt15, 96, true),
    NAMED(one, Int4<32>, 50, 96, 3, kInt15, 48, false),
    NAMED(one, Int4<32>, 50, 96, 130, kInt8, 48, true),
    DECODE(NvFp4, 87, 384, kInt15, 128),
    NAMED(one, NvFp4, 87, 384, 130, kInt15, 128, true),
    NAMED(one, NvFp4, 87, 384, 130, kInt8, 128, true),
    NAMED(one, NvFp4, 17, 48, 3, kInt15, 48, false),
    NAMED(one, NvFp4, 17, 48, 130, kInt8, 48, true),
    NAMED(two, Q128, 87, 256, 1, kInt15, 128, false),
    NAMED(two, Q128, 87, 256, 4, kInt15, 128, false),
    NAMED(two, Q128, 87, 256, 130, kInt8, 128, true),
    NAMED(two, Bf16, 87, 256, 1, kF32, 0, false),
    NAMED(two, Bf16, 87, 256, 130, kF32, 0, true),
    NAMED(two, NvFp4, 87, 256, 3, kInt15, 128, false),
    NAMED(mixed, Q128, 40, 256, 1, kInt15, 128, false),
    NAMED(mixed, Q128, 40, 256, 3, kInt15 | kInt8, 128, false),
    NAMED(mixed, Q128, 40, 256, 130, kInt15, 128, true),
    NAMED(mixed, NvFp4, 40, 256, 130, kInt8, 128, true),
    NAMED(plain, F32, 40, 112),
    NAMED(plain, F16, 40, 112),
    NAMED(plain, Bf16, 40, 112),
    NAMED(gather, F32, 40, 100),
    NAMED(gather, F16, 40, 100),
    NAMED(gather, Bf16, 40, 100),
    NAMED(gather, Q128, 40, 256),
    NAMED(gather, Z32, 40, 96),
    NAMED(gather, NvFp4, 40, 48),
};

} // namespace

extern "C" const LinearKernelTable LATHE_TEST_TABLE = {
    kKernels, sizeof(kKernels) / sizeof(kKernels[0])};
