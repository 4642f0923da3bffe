//===- sample.cuh - choosing tokens on the GPU -----------------*- CUDA -*-===//
//
// The choices of runtime/engine/Sampler.h, bit for bit: all arithmetic that a
// choice hangs on is runtime/base/SamplerMath.h's, weights are summed as
// integers, and ties are broken by ids. Three launches, for rows of any number:
//
//   sampleHighest  the highest logit; at temperature 0 that is the choice, and
//                  the other two may be left out
//   sampleWeigh    top-k, top-p: where the kept tokens end, to a bucket of
//                  logits; nothing to do without either
//   sampleChoose   draws among tokens that are kept for certain, and lists
//                  those in doubt; the last block settles them and compares
//
// The vocabulary is never sorted. Tokens are classed by their distance from
// the highest logit, in 64 buckets per octave, so that the one bucket in doubt
// holds few tokens at any temperature. Where the kept ones end in it is found
// by a radix search over keys, a key being a logit and an id in one integer
// that orders as top-k and top-p do.
//
// Grid: sampleBlocks(width) x rows, kSampleThreads threads,
// kSampleSharedBytes. Row r of the logits is the token at position
// step->position + r; the choice is for the position after it. Where logits are
// those of some tokens only (LatheSampling::ids), a row's number stands for a
// token until its noise is needed, and at the end.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_SAMPLE_CUH
#define LATHE_COMPILER_DEVICE_CUDA_SAMPLE_CUH

#include "compiler/device/cuda/sample_select.cuh"

namespace lathe {

//===----------------------------------------------------------------------===//
// The highest logit
//===----------------------------------------------------------------------===//

LATHE_DEVICE int statusOf(u64 highest) {
  return highest == kNanKey                       ? LATHE_SAMPLE_NAN
         : (u32)(highest >> 32) == kInfiniteOrder ? LATHE_SAMPLE_INFINITE
         : highest == 0                           ? LATHE_SAMPLE_NOTHING
                                                  : LATHE_SAMPLE_CHOSEN;
}

LATHE_DEVICE void sampleHighest(const LatheLaunch &ctx, const float *logits,
                                const LatheSampling *sampling, int *tokens,
                                int *status) {
  waitForPrevious();
  launchNext();
  const SampleTask task(ctx, logits, sampling);
  u64 best = 0;
#pragma unroll
  for (int i = 0; i < kSampleSlice / kSampleThreads; ++i) {
    const int id = blockX() * kSampleSlice + i * kSampleThreads + threadX();
    const bool there = id < task.options.vocab;
    const float x = there ? task.logits[id] : 0.0f;
    const u64 key = x != x ? kNanKey : keyOf(x, id);
    best = higher(best, there ? key : 0);
  }
  for (int i = blockX() * kSampleThreads + threadX(); i < kSampleBuckets;
       i += gridX() * kSampleThreads)
    task.weights[i] = 0;
  best = blockHighest(best);
  if (threadX() == 0)
    task.partials[blockX()].score = best;
  if (!isLastBlock(task.arrivals, gridX()))
    return;

  best = 0;
  for (int i = threadX(); i < gridX(); i += kSampleThreads)
    best = higher(best, loadFresh(&task.partials[i].score));
  best = blockHighest(best);
  if (warp() != 0)
    return;
  const int found = statusOf(best);
  const double floor = task.options.minP > 0.0f
                           ? exact::log((double)task.options.minP)
                           : -(double)bitsFloat(0x7f800000);
  if (lane() == 0) {
    task.row->highest = best;
    task.row->listed = 0;
    task.row->floor = floor;
    status[blockY()] = found;
    tokens[blockY()] =
        found == LATHE_SAMPLE_CHOSEN ? task.tokenOf(idOf(best)) : 0;
  }
}

//===----------------------------------------------------------------------===//
// Where the kept tokens end, to a bucket
//===----------------------------------------------------------------------===//

/// Finds the bucket in which the weight reaches the target.
LATHE_DEVICE void placeEnd(const SampleTask &task) {
  constexpr int kOwn = kSampleBuckets / kSampleThreads;
  u64 own[kOwn], sum = 0;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    own[i] = loadFresh(task.weights + threadX() * kOwn + i);
    sum += own[i];
  }
  const Prefix prefix = blockPrefix(sum);
  const double target = task.usesTopK() ? (double)task.options.topK
                                        : exact::mul((double)task.options.topP,
                                                     (double)prefix.total);
  u64 before = prefix.front;
  int passed = 0;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const bool pass = passed == i && (double)(before + own[i]) < target;
    passed += pass ? 1 : 0;
    before += pass ? own[i] : 0;
  }
  // The end is in these buckets, or there is none and all tokens are kept.
  const bool isHere = (double)prefix.front < target &&
                      (passed < kOwn || threadX() == kSampleThreads - 1);
  const bool twice = task.usesTopK() && task.usesTopP();
  const int bucket = threadX() * kOwn + passed;
  if (isHere) {
    // With both filters, top-p needs to see all that top-k keeps.
    task.row->certain = twice ? 0 : bucket;
    task.row->before = twice ? 0 : before;
    task.row->last = bucket;
    task.row->target = target;
  }
}

LATHE_DEVICE void sampleWeigh(const LatheLaunch &ctx, const float *logits,
                              const LatheSampling *sampling,
                              const int *status) {
  waitForPrevious();
  launchNext();
  const SampleTask task(ctx, logits, sampling);
  const LatheSampling &options = task.options;
  if (status[blockY()] != LATHE_SAMPLE_CHOSEN || options.temperature == 0.0f ||
      !task.usesFilter())
    return;
  SampleShared &shared = sampleShared();
  for (int i = threadX(); i < kSampleBuckets; i += kSampleThreads)
    shared.low[i] = shared.high[i] = 0;
  syncThreads();
  const float highest = logitOf(task.row->highest);
  const SampleWeight weigh{task.usesTopK(), highest, options.temperature};
#pragma unroll 2
  for (int i = 0; i < kSampleSlice / kSampleThreads; ++i) {
    const int id = blockX() * kSampleSlice + i * kSampleThreads + threadX();
    const float x =
        id < options.vocab ? task.logits[id] : bitsFloat(0xff800000);
    const u64 weight = keyOf(x, id) != 0 ? weigh(x) : 0;
    const int bucket = bucketOf(x, highest);
    if (weight != 0)
      addWide(shared.low + bucket, shared.high + bucket, weight);
  }
  syncThreads();
  for (int i = 0; i < kSampleBuckets; i += kSampleThreads) {
    const int bucket = i + threadX();
    const u64 weight = wide(shared.low[bucket], shared.high[bucket]);
    if (weight != 0)
      atomicAddDevice(task.weights + bucket, weight);
  }
  if (isLastBlock(task.arrivals, gridX()))
    placeEnd(task);
}

//===----------------------------------------------------------------------===//
// The draw
//===----------------------------------------------------------------------===//

/// Scores with noise. Double precision is slow on most GPUs, so a cheap bound
/// on a score decides which ones to compute.
struct SampleDraw {
  u64 noise;
  float highest, temperature;
  double floor;
  const int *ids; ///< as LatheSampling has them

  LATHE_DEVICE_MEMBER u64 noiseOf(u64 key) const {
    const int id = idOf(key);
    return exact::noiseBits(noise, ids && key != 0 ? ids[id] : id);
  }
  /// Between `least` and `most`, in that the score is above `least` if min-p
  /// keeps it for certain, and never above `most`.
  struct Bounds {
    float least, most;
  };
  LATHE_DEVICE_MEMBER Bounds bounds(u64 key) const {
    // Of v = 1 - u, `ones` leading zeros give 2^-(ones+1) <= v < 2^-ones; and
    // -log(v) is no less than the noise, -log(v) - log(2) no more if ones > 0.
    constexpr float kLog2 = 0.693147f, kSlack = 0.02f, kLeastNoise = -3.7f;
    const int leading = leadingZeros(~noiseOf(key));
    const int ones = leading < 53 ? leading : 53;
    const float x = exact::div(exact::add(logitOf(key), -highest), temperature);
    const float low = ones > 0 ? (ones - 1) * kLog2 : kLeastNoise;
    const float high = (ones + 1) * kLog2;
    const bool stays = x * 1.00001f - kSlack >= (float)floor;
    return {stays ? x * 1.00001f + low - kSlack : bitsFloat(0xff800000),
            x * 0.99999f + high + kSlack};
  }
  LATHE_DEVICE_MEMBER Best score(u64 key) const {
    const double x = exact::score(logitOf(key), highest, temperature);
    const double g = exact::gumbel(noiseOf(key));
    return x >= floor ? Best{exact::add(x, g), idOf(key)} : noBest();
  }
};

/// The best of the members from `least` up; in every thread.
LATHE_DEVICE Best drawFrom(const SampleMembers &members, const SampleDraw &draw,
                           u64 least) {
  // The highest logit is always kept and scores more than this.
  float bound = -3.8f;
  for (int base = 0; base < members.count; base += kSampleThreads) {
    const u64 key = members.at(base + threadX());
    const float sure = draw.bounds(key).least;
    bound = key >= least && sure > bound ? sure : bound;
  }
  bound = logitOf(blockHighest(keyOf(bound, 0)));
  Best best = noBest();
  for (int base = 0; base < members.count; base += kSampleThreads) {
    const u64 key = members.at(base + threadX());
    const bool mayWin = key >= least && draw.bounds(key).most > bound;
    if (ballot(mayWin) != 0) { // the whole warp, or nobody
      const Best scored = better(best, draw.score(key));
      best = {mayWin ? scored.score : best.score, mayWin ? scored.id : best.id};
    }
  }
  return blockBest(best);
}

//===----------------------------------------------------------------------===//
// The choice
//===----------------------------------------------------------------------===//

/// Lists this block's members; their order in the list means nothing.
LATHE_DEVICE void listMembers(const SampleTask &task,
                              const SampleMembers &members) {
  SampleShared &shared = sampleShared();
  shared.slots = 0;
  syncThreads();
  u32 own = 0;
  for (int base = 0; base < members.count; base += kSampleThreads)
    own += members.at(base + threadX()) != 0 ? 1 : 0;
  u32 slot = 0;
  if (own > 0)
    slot = atomicAddShared(&shared.slots, own);
  syncThreads();
  if (threadX() == 0)
    shared.base = atomicAddDevice(&task.row->listed, (u64)shared.slots);
  syncThreads();
  u64 to = shared.base + slot;
  for (int base = 0; base < members.count; base += kSampleThreads) {
    const u64 key = members.at(base + threadX());
    if (key != 0 && to < kSampleListed)
      task.list[to] = key;
    to += key != 0 ? 1 : 0;
  }
}

/// Of the tokens in doubt, draws among those that are kept.
LATHE_DEVICE Best settle(const SampleTask &task, SampleMembers members,
                         const SampleDraw &draw) {
  const u64 listed = loadFresh(&task.row->listed);
  if (listed <= kSampleListed) {
    members.list = task.list;
    members.count = (int)listed;
  } else {
    members.begin = 0;
    members.count = task.options.vocab;
  }
  SampleWeight weigh{task.usesTopK(), draw.highest, draw.temperature};
  u64 least = endOf(members, weigh, 1, task.row->before, task.row->target);
  if (task.usesTopK() && task.usesTopP()) {
    weigh.counts = false;
    const double total = (double)totalWeight(members, weigh, least);
    const double target = exact::mul((double)task.options.topP, total);
    least = endOf(members, weigh, least, 0, target);
  }
  return drawFrom(members, draw, least);
}

LATHE_DEVICE void sampleChoose(const LatheLaunch &ctx, const float *logits,
                               const LatheSampling *sampling, int *tokens,
                               const int *status) {
  waitForPrevious();
  launchNext();
  const SampleTask task(ctx, logits, sampling);
  const LatheSampling &options = task.options;
  if (status[blockY()] != LATHE_SAMPLE_CHOSEN || options.temperature == 0.0f)
    return;
  const float highest = logitOf(task.row->highest);
  const SampleDraw draw{
      exact::positionKey(options.seed, ctx.step->position + blockY() + 1ll),
      highest, options.temperature, task.row->floor, options.ids};
  const bool filter = task.usesFilter();
  const int certain = filter ? task.row->certain : kSampleBuckets;
  SampleMembers members{
      nullptr,       kSampleSlice, task.logits, blockX() * kSampleSlice,
      options.vocab, highest,      0,           certain};
  Best best = drawFrom(members, draw, 1);
  if (threadX() == 0) {
    task.partials[blockX()] = {(u64)exact::asBits(best.score), (u64)best.id};
  }
  members.from = certain;
  members.to = filter ? task.row->last + 1 : certain;
  if (filter)
    listMembers(task, members);
  if (!isLastBlock(task.arrivals, gridX()))
    return;

  best = noBest();
  for (int i = threadX(); i < gridX(); i += kSampleThreads) {
    const u64 score = loadFresh(&task.partials[i].score);
    const u64 id = loadFresh(&task.partials[i].id);
    best = better(best, {exact::asDouble((i64)score), (int)id});
  }
  best = blockBest(best);
  if (filter)
    best = better(best, settle(task, members, draw));
  if (threadX() == 0)
    tokens[blockY()] = task.tokenOf(best.id);
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_SAMPLE_CUH
