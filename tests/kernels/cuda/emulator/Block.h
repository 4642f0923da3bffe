//===- Block.h - a block that the emulator runs -----------------*- C++ -*-===//
//
// What the emulator knows about a block: its threads, who waits for whom, and
// the copies that are under way. Emulator.cpp runs it; BlockMemory.cpp has its
// barriers in memory, its twin and its copies.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_KERNELS_CUDA_EMULATOR_BLOCK_H
#define LATHE_TESTS_KERNELS_CUDA_EMULATOR_BLOCK_H

#include "tests/kernels/cuda/emulator/Emulator.h"
#include "tests/kernels/cuda/emulator/EmulatorTable.h"
#include "tests/kernels/cuda/emulator/FiberStacks.h"

#include <random>
#include <string>
#include <vector>

namespace lathe::emulator {

constexpr int kMaxThreads = 1024;
constexpr int kMaxWarps = kMaxThreads / 32;
constexpr int kMaxShared = 227 << 10;
constexpr int kGuardBytes = 4096; ///< on both sides of shared memory
constexpr unsigned char kPoison = 0xff;
constexpr unsigned char kGuard = 0xfd;

/// A set of the block's threads.
struct ThreadSet {
  u32 lanes[kMaxWarps] = {};
  int count = 0;

  void insert(int thread) {
    lanes[thread / 32] |= 1u << thread % 32;
    ++count;
  }
};

enum class Wait { kNothing, kWarp, kNamed, kBarrier, kCount, kReturned };

/// A copyAsync16 of some thread.
struct AsyncCopy {
  void *to;
  const void *from;
  bool valid;
  int group;
};

struct Fiber {
  void *stack;
  Wait wait;
  int barrier; ///< the named one's id, or an index into Block::barriers
  u32 parity;
  const u32 *count; ///< in device memory, which may come to be `wanted`
  u32 wanted;
  std::vector<AsyncCopy> copies; ///< oldest first
  int groups;                    ///< committed so far
  EmulatorWarpgroup warpgroup;
};

struct Warp {
  u32 all;      ///< the lanes that it has
  u32 runnable; ///< those that wait for nothing, the running one included
  u32 arrived;  ///< those that are in the collective `name`
  const char *name;
  void *arguments[32];
};

struct NamedBarrier {
  int threads;
  ThreadSet waiting;
};

/// What a Barrier in shared memory stands for: its eight bytes hold kMagic and
/// an index, so that a barrier that was overwritten is noticed.
struct MemoryBarrier {
  i64 offset;   ///< in shared memory
  int arrivals; ///< of every phase
  int pending;  ///< arrivals that this phase lacks
  i64 bytes;    ///< that this phase lacks
  u32 phase;
  ThreadSet waiting;
};
constexpr u64 kMagic = 0x6d626172ull << 32;

struct BulkCopy {
  void *to;
  const void *from;
  u32 bytes;
  int barrier; ///< an index into Block::barriers
};

/// A storeTwin by the other block.
struct TwinStore {
  char *to;
  u64 value;
  u32 bytes;
  int barrier; ///< an index into Block::barriers
};

struct Block {
  int x, y;          ///< of the grid
  int current;       ///< the thread that runs, or ran last
  int alive;         ///< threads that have not returned
  u32 runnableWarps; ///< those with a runnable lane
  Fiber fibers[kMaxThreads];
  Warp warps[kMaxWarps];
  NamedBarrier named[16];
  std::vector<MemoryBarrier> barriers;
  std::vector<BulkCopy> bulkCopies;  ///< not delivered yet
  std::vector<TwinStore> twinStores; ///< not delivered yet
  Block *twin = nullptr;
  u32 clusterArrived; ///< threads of this block

  FiberStacks stacks{kMaxThreads};
  alignas(1024) char sharedArea[kGuardBytes + kMaxShared + kGuardBytes];
  char *shared() { return sharedArea + kGuardBytes; }
};

/// What goes for the whole launch.
struct Launch {
  const std::function<void()> *kernel;
  Order order;
  std::minstd_rand random;
  std::string error;
  void *hostStack;
  int threads;
};

extern Block *block; ///< the one that runs
extern Launch launch;
extern EmulatorTable state; ///< latheEmulator

/// Ends the launch.
[[noreturn]] void fail(const std::string &message);
/// Fails unless that is an aligned part of shared memory.
void checkShared(const void *p, u64 bytes, u64 alignment, const char *who);

/// Runs others until somebody makes this thread runnable again.
void suspend(Wait wait, int barrier = 0, u32 parity = 0);
void wake(ThreadSet &set);

/// See EmulatorTable.
void barrierInit(u64 *b, int arrivals);
void barrierArrive(u64 *b, u32 bytes);
void barrierWait(u64 *b, u32 parity);
void waitForCount(const u32 *p, u32 count);
void clusterArrive();
void clusterWait();
void storeTwin(void *p, const void *value, u32 bytes, u64 *b);
void copyBulk(void *shared, const void *global, u32 bytes, u64 *b);
void copyAsync16(void *shared, const void *global, bool valid);
void copyWait(int pending);
/// Delivers one of the bulk copies or of the twin's stores, if there is any.
bool deliver();

} // namespace lathe::emulator

#endif // LATHE_TESTS_KERNELS_CUDA_EMULATOR_BLOCK_H
