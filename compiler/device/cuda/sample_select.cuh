//===- sample_select.cuh - which tokens are kept ---------------*- CUDA -*-===//
//
// The sampler's order of tokens, and where in it top-k and top-p end. See
// sample.cuh.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_SAMPLE_SELECT_CUH
#define LATHE_COMPILER_DEVICE_CUDA_SAMPLE_SELECT_CUH

#include "compiler/device/cuda/sample_block.cuh"
#include "runtime/base/SamplerMath.h"

namespace lathe {

constexpr u64 kNanKey = ~0ull;
constexpr u32 kInfiniteOrder = 0xff800000; // orderOf(+infinity)

/// Floats as integers of the same order; -0 is 0.
LATHE_DEVICE u32 orderOf(float x) {
  const u32 bits = floatBits(x == 0.0f ? 0.0f : x);
  return bits >> 31 ? ~bits : bits | 0x80000000;
}
LATHE_DEVICE float logitOf(u64 key) {
  const u32 order = (u32)(key >> 32);
  return bitsFloat(order >> 31 ? order & 0x7fffffff : ~order);
}
/// Higher for a higher logit, then for a lower id; never 0. Minus infinity,
/// which is never chosen, has no key: 0.
LATHE_DEVICE u64 keyOf(float x, int id) {
  const bool none = floatBits(x) == 0xff800000;
  return none ? 0 : (u64)orderOf(x) << 32 | ~(u32)id;
}
LATHE_DEVICE int idOf(u64 key) { return (int)~(u32)key; }

/// The class of a logit; never greater for a higher one.
LATHE_DEVICE int bucketOf(float x, float highest) {
  constexpr int kFirst = (127 - 16) << 6; // 2^-16
  const int step = (int)(floatBits(exact::add(highest, -x)) >> 17) - kFirst;
  return step < 0 ? 0 : step < kSampleBuckets ? step : kSampleBuckets - 1;
}

/// A row of logits and its part of the workspace.
struct SampleTask {
  LatheSampling options;
  const float *logits;
  SampleRow *row;
  u64 *weights;
  u64 *list;
  SamplePartial *partials;
  u32 *arrivals;

  LATHE_DEVICE_MEMBER SampleTask(const LatheLaunch &ctx, const float *all,
                                 const LatheSampling *sampling)
      : options(*sampling), logits(all + (i64)blockY() * options.stride) {
    char *at = ctx.scratch + sampleRowBytes(gridX()) * blockY();
    row = (SampleRow *)at;
    weights = (u64 *)(row + 1);
    list = weights + kSampleBuckets;
    partials = (SamplePartial *)(list + kSampleListed);
    arrivals = ctx.counters + blockY();
  }
  /// The token whose logit is number `id`.
  LATHE_DEVICE_MEMBER int tokenOf(int id) const {
    return options.ids ? options.ids[id] : id;
  }
  LATHE_DEVICE_MEMBER bool usesTopK() const {
    return options.topK > 0 && options.topK < options.vocab;
  }
  LATHE_DEVICE_MEMBER bool usesTopP() const { return options.topP != 1.0f; }
  LATHE_DEVICE_MEMBER bool usesFilter() const {
    return usesTopK() || usesTopP();
  }
};

/// What a token adds towards the end of the kept ones.
struct SampleWeight {
  bool counts; ///< 1 each, for top-k; else its probability
  float highest, temperature;

  LATHE_DEVICE_MEMBER u64 operator()(float x) const {
    return counts ? 1 : (u64)exact::mass(x, highest, temperature);
  }
};

//===----------------------------------------------------------------------===//
// Some of a row's tokens
//===----------------------------------------------------------------------===//

/// Tokens of a list, or the ids from `begin` whose buckets are in [from, to).
struct SampleMembers {
  const u64 *list; ///< null: ids
  int count;       ///< of the list, or of ids
  const float *logits;
  int begin, vocab;
  float highest;
  int from, to;

  /// The key of member i, which may be beyond the count; 0: none.
  LATHE_DEVICE_MEMBER u64 at(int i) const {
    if (list)
      return i < count ? loadFresh(list + i) : 0;
    const int id = begin + i;
    const bool there = i < count && id < vocab;
    const float x = there ? logits[id] : bitsFloat(0xff800000);
    const int bucket = bucketOf(x, highest);
    return bucket >= from && bucket < to ? keyOf(x, id) : 0;
  }
};

/// The lowest key that is kept, if of the members from `least` up the highest
/// are, as few as bring their weight and `before` to `target`; `least` if all
/// of them do not. Decides eight bits of the key at a time, as long as more
/// than one member agrees with those before.
LATHE_DEVICE u64 endOf(const SampleMembers &members, SampleWeight weigh,
                       u64 least, u64 before, double target) {
  SampleShared &shared = sampleShared();
  u64 decided = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    shared.low[threadX()] = shared.high[threadX()] = 0;
    shared.count[threadX()] = 0;
    shared.digit = -1; // the same from every thread
    syncThreads();
    for (int base = 0; base < members.count; base += kSampleThreads) {
      const u64 key = members.at(base + threadX());
      const bool agrees = key >= least && key >> shift >> 8 == decided;
      const u64 weight = weigh(logitOf(key));
      const int digit = (int)(key >> shift) & 255;
      if (agrees) {
        addWide(shared.low + digit, shared.high + digit, weight);
        atomicAddShared(shared.count + digit, 1);
      }
    }
    syncThreads();
    // Thread t looks at digit 255 - t, for the highest come first.
    const int digit = kSampleThreads - 1 - threadX();
    const u64 own = wide(shared.low[digit], shared.high[digit]);
    const u64 front = before + blockPrefix(own).front;
    if ((double)front < target && (double)(front + own) >= target) {
      shared.digit = digit;
      shared.front = front;
      shared.members = (int)shared.count[digit];
    }
    syncThreads();
    const int found = shared.digit, agreeing = shared.members;
    before = shared.front;
    syncThreads();
    if (found < 0)
      return least;
    decided = decided << 8 | (u64)found;
    if (agreeing == 1)
      return higher(decided << shift, least);
  }
  return decided;
}

LATHE_DEVICE u64 totalWeight(const SampleMembers &members, SampleWeight weigh,
                             u64 least) {
  u64 sum = 0;
  for (int base = 0; base < members.count; base += kSampleThreads) {
    const u64 key = members.at(base + threadX());
    const u64 weight = weigh(logitOf(key));
    sum += key >= least ? weight : 0;
  }
  return blockPrefix(sum).total;
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_SAMPLE_SELECT_CUH
