//===- CudaSampling.h - launches and memory of the sampler ------*- C++ -*-===//
//
// Header-free: whoever launches sample.cuh sizes the launches with it, the
// kernels lay their memory out with it.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_BASE_CUDASAMPLING_H
#define LATHE_RUNTIME_BASE_CUDASAMPLING_H

namespace lathe {

constexpr int kSampleThreads = 256;
constexpr int kSampleWarps = kSampleThreads / 32;
/// Logits of a block.
constexpr int kSampleSlice = 2048;
/// Classes of tokens by their distance from the highest logit.
constexpr int kSampleBuckets = 2048;
/// Tokens that may be listed for the exact choice; more are found again by
/// reading the whole row, which only happens when thousands are equal or
/// nearly so.
constexpr int kSampleListed = 8192;

/// What the launches leave for each other, per row of logits.
struct SampleRow {
  unsigned long long highest; ///< key of the highest logit
  unsigned long long listed;  ///< tokens in, or that would be in, the list
  unsigned long long before;  ///< weight of all buckets below `certain`
  double target;              ///< weight at which the kept tokens end
  double floor;               ///< the lowest score that min-p keeps
  int certain;                ///< buckets below this one are kept
  int last;                   ///< buckets above this one are not
};

/// What a block found.
struct SamplePartial {
  unsigned long long score, id;
};

/// Shared memory, the same for all three entries.
struct SampleShared {
  unsigned long long warps[kSampleWarps];
  double scores[kSampleWarps];
  int ids[kSampleWarps];
  unsigned long long base, front;
  int digit, members;
  unsigned flag, slots;
  /// Sums of 64 bits in two halves.
  unsigned low[kSampleBuckets], high[kSampleBuckets];
  unsigned count[kSampleThreads];
};
constexpr int kSampleSharedBytes = sizeof(SampleShared);

/// Blocks per row of logits of this width.
constexpr int sampleBlocks(int width) {
  return (width + kSampleSlice - 1) / kSampleSlice;
}

/// Workspace of a row: SampleRow, the buckets' weights, the list, the partials.
constexpr long long sampleRowBytes(int blocks) {
  return (long long)sizeof(SampleRow) + 8ll * kSampleBuckets +
         8ll * kSampleListed + (long long)sizeof(SamplePartial) * blocks;
}
constexpr long long sampleScratch(int width, int rows) {
  return sampleRowBytes(sampleBlocks(width)) * rows;
}

} // namespace lathe

#endif // LATHE_RUNTIME_BASE_CUDASAMPLING_H
