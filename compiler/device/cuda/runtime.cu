//===- runtime.cu - entries that belong to no model ------------*- CUDA -*-===//
//
// What the runtime itself launches: packing weights, filling them with random
// values, and measuring the read bandwidth. Sampling has a file of its own.
//
//===----------------------------------------------------------------------===//

#include "compiler/device/cuda/pack.cuh"

namespace lathe {

LATHE_KERNEL(256, 1) pack(LathePack piece) { packWeight(piece); }

LATHE_KERNEL(256, 1) fill(LathePack piece) { fillWeight(piece); }

/// Random floats in [-scale, scale).
LATHE_KERNEL(256, 1)
fill_floats(float *to, i64 count, float scale, u64 seed) {
  for (i64 i = (i64)blockX() * threadCount() + threadX(); i < count;
       i += (i64)gridX() * threadCount())
    to[i] = scale * ((float)(int)(mixBits(seed + i) & 0xffff) / 32768.0f - 1);
}

/// Random pairs of bf16 in [-scale, scale).
LATHE_KERNEL(256, 1)
fill_bf16(u32 *to, i64 pairs, float scale, u64 seed) {
  for (i64 i = (i64)blockX() * threadCount() + threadX(); i < pairs;
       i += (i64)gridX() * threadCount()) {
    u64 bits = mixBits(seed + i);
    float v0 = (float)(int)(bits & 0xffff) / 32768.0f - 1.0f;
    float v1 = (float)(int)(bits >> 16 & 0xffff) / 32768.0f - 1.0f;
    to[i] = packBf16(scale * v0, scale * v1);
  }
}

/// Brings `words` to memory of the host. A copy that is no kernel would hold up
/// the graph that it is a part of.
LATHE_DEVICE void toHost(int *from, int *host, int words) {
  for (int i = threadX(); i < words; i += threadCount())
    host[i] = from[i];
}

LATHE_KERNEL(32, 1) deliver(int *from, int *host, int words) {
  waitForPrevious();
  launchNext();
  toHost(from, host, words);
}

/// Moves the sequence on by a token, the first of `choices`, and brings these
/// to the host. The token will be in the states by then.
LATHE_KERNEL(32, 1)
advance(LatheStep *step, int *input, int *choices, int *host, int words) {
  waitForPrevious();
  launchNext();
  toHost(choices, host, words);
  if (threadX() == 0) {
    input[0] = choices[0];
    step->position += 1;
    step->pending = 0;
  }
}

/// Reads `vectors` 16-byte words and keeps nothing; `sink` is never written,
/// which the compiler cannot know.
LATHE_KERNEL(512, 1) read(const Vec4 *from, i64 vectors, u32 *sink) {
  constexpr int kAhead = 8;
  u32 all = 0;
  const i64 step = (i64)gridX() * threadCount();
  i64 i = (i64)blockX() * threadCount() + threadX();
  for (; i + (kAhead - 1) * step < vectors; i += kAhead * step) {
    Vec4 v[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a)
      v[a] = loadStream(from + i + a * step);
#pragma unroll
    for (int a = 0; a < kAhead; ++a)
      all |= v[a].x & v[a].y & v[a].z & v[a].w;
  }
  if (all == 0x13572468)
    *sink = all;
}

} // namespace lathe
