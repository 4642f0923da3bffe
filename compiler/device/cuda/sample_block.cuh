//===- sample_block.cuh - blocks of threads that agree ---------*- CUDA -*-===//
//
// What the sampler's kernels do with a block of kSampleThreads threads. All
// threads come to every function; nothing depends on the order of threads.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_SAMPLE_BLOCK_CUH
#define LATHE_COMPILER_DEVICE_CUDA_SAMPLE_BLOCK_CUH

#include "compiler/device/cuda/prelude.cuh"
#include "runtime/base/CudaSampling.h"

namespace lathe {

LATHE_DEVICE SampleShared &sampleShared() {
  return *(SampleShared *)sharedMemory();
}

LATHE_DEVICE u64 higher(u64 a, u64 b) { return a > b ? a : b; }

/// The highest value of the block, in every thread.
LATHE_DEVICE u64 blockHighest(u64 value) {
  u64 *warps = sampleShared().warps;
  for (int mask = 16; mask > 0; mask /= 2)
    value = higher(value, shuffleXor(value, mask));
  warps[warp()] = value; // the same from every lane
  syncThreads();
  value = warps[0];
  for (int w = 1; w < kSampleWarps; ++w)
    value = higher(value, warps[w]);
  syncThreads();
  return value;
}

/// The sum of `value` over the threads before this one, and over all.
struct Prefix {
  u64 front, total;
};
LATHE_DEVICE Prefix blockPrefix(u64 value) {
  u64 *warps = sampleShared().warps;
  u64 sum = value;
  for (int by = 1; by < 32; by *= 2) {
    u64 other = shuffleUp(sum, by);
    sum += lane() >= by ? other : 0;
  }
  const int mine = warp();
  if (lane() == 31)
    warps[mine] = sum;
  syncThreads();
  Prefix prefix{sum - value, 0};
  for (int w = 0; w < kSampleWarps; ++w) {
    prefix.front += w < mine ? warps[w] : 0;
    prefix.total += warps[w];
  }
  syncThreads();
  return prefix;
}

/// A token and its score with noise.
struct Best {
  double score;
  int id;
};
/// Below every score and above every id: the first token is better.
LATHE_DEVICE Best noBest() {
  return {-(double)bitsFloat(0x7f800000), 0x7fffffff};
}
LATHE_DEVICE Best better(Best a, Best b) {
  bool first = a.score > b.score || (a.score == b.score && a.id < b.id);
  return {first ? a.score : b.score, first ? a.id : b.id};
}
/// The best of the block, in every thread.
LATHE_DEVICE Best blockBest(Best best) {
  SampleShared &shared = sampleShared();
  for (int mask = 16; mask > 0; mask /= 2)
    best =
        better(best, {shuffleXor(best.score, mask), shuffleXor(best.id, mask)});
  const int mine = warp();
  shared.scores[mine] = best.score;
  shared.ids[mine] = best.id;
  syncThreads();
  best = {shared.scores[0], shared.ids[0]};
  for (int w = 1; w < kSampleWarps; ++w)
    best = better(best, {shared.scores[w], shared.ids[w]});
  syncThreads();
  return best;
}

/// Adds 64 bits in two halves: there is no 64-bit atomic in shared memory. The
/// carry is exact in any order, as every addition sees the sum before it.
LATHE_DEVICE void addWide(u32 *low, u32 *high, u64 value) {
  const u32 part = (u32)value;
  const u32 before = atomicAddShared(low, part);
  atomicAddShared(high, (u32)(value >> 32) + (before + part < part ? 1 : 0));
}
LATHE_DEVICE u64 wide(u32 low, u32 high) { return (u64)high << 32 | low; }

/// Whether all other blocks that share `counter` have come here before this
/// one, which then sees what they wrote (with loadFresh). Leaves a zero.
LATHE_DEVICE bool isLastBlock(u32 *counter, int blocks) {
  u32 *flag = &sampleShared().flag;
  syncThreads();
  if (threadX() == 0) {
    fenceDevice();
    *flag = atomicAddDevice(counter, 1) + 1 == (u32)blocks;
    fenceDevice();
  }
  syncThreads();
  const bool isLast = *flag;
  if (isLast && threadX() == 0)
    *counter = 0;
  syncThreads();
  return isLast;
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_SAMPLE_BLOCK_CUH
