#include "tests/kernels/cuda/emulator/Block.h"
#include "tests/kernels/cuda/emulator/FiberStacks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

namespace lathe::emulator {
namespace {

Block block;
extern EmulatorTable state; // latheEmulator, at the end of this file

alignas(128) char sharedArea[kGuardBytes + kMaxShared + kGuardBytes];

//===----------------------------------------------------------------------===//
// Failing
//===----------------------------------------------------------------------===//

std::string describe(const Fiber &fiber) {
  switch (fiber.wait) {
  case Wait::kNothing:
    return "can run";
  case Wait::kWarp:
    return std::string("waits for its warp in ") +
           block.warps[(&fiber - block.fibers) / 32].name;
  case Wait::kNamed:
    return fiber.barrier ? "waits in syncNamed " + std::to_string(fiber.barrier)
                         : "waits in syncThreads";
  case Wait::kBarrier: {
    const MemoryBarrier &b = block.barriers[fiber.barrier];
    return "waits for parity " + std::to_string(fiber.parity) +
           " of the barrier at " + std::to_string(b.offset) + ", which lacks " +
           std::to_string(b.pending) + " arrivals and " +
           std::to_string(b.bytes) + " bytes";
  }
  case Wait::kReturned:
    return "has returned";
  }
  return "";
}

/// One line for every run of threads that wait for the same.
std::string describeThreads() {
  std::string text;
  for (int i = 0, end; i < block.threads; i = end) {
    std::string doing = describe(block.fibers[i]);
    for (end = i + 1; end < block.threads; ++end)
      if (describe(block.fibers[end]) != doing)
        break;
    text += "\n  " + std::to_string(i);
    text += end > i + 1 ? "-" + std::to_string(end - 1) : "";
    text += ": " + doing;
  }
  return text;
}

/// Does not return, which ASan may not know: it would look at the thread's
/// stack and find a fiber's.
void leaveBlock() {
  void *abandoned;
  latheSwitchFiber(&abandoned, block.hostStack);
}

std::string located(const std::string &message) {
  return "block (" + std::to_string(state.blockX) + ", " +
         std::to_string(state.blockY) + "): " + message;
}

[[noreturn]] void fail(const std::string &message) {
  block.error =
      located("thread " + std::to_string(state.thread) + ": " + message);
  leaveBlock();
  __builtin_unreachable();
}

/// Fails unless that is an aligned part of shared memory.
void checkShared(const void *p, u64 bytes, u64 alignment, const char *who) {
  u64 offset = static_cast<const char *>(p) - state.shared;
  if (offset > state.sharedBytes || bytes > state.sharedBytes - offset)
    fail(std::string(who) + " outside shared memory");
  if (offset % alignment)
    fail(std::string(who) + ": misaligned shared memory");
}

//===----------------------------------------------------------------------===//
// Scheduling
//===----------------------------------------------------------------------===//

/// The member of `set` that follows `current` in this launch's order, or the
/// first one after -1.
int pick(u32 set, int current) {
  if (block.order == Order::kDescending) {
    int turn = (32 - std::max(current, 0)) % 32; // brings current - 1 to 31
    return (63 - std::countl_zero(std::rotl(set, turn)) - turn) % 32;
  }
  int turn = block.order == Order::kShuffled ? block.random() >> 8 & 31
                                             : (current + 1) % 32;
  return (std::countr_zero(std::rotr(set, turn)) + turn) % 32;
}

void wake(ThreadSet &set) {
  for (int i = 0; i < kMaxWarps; ++i)
    if (set.lanes[i]) {
      block.warps[i].runnable |= set.lanes[i];
      block.runnableWarps |= 1u << i;
    }
  set = {};
}

bool deliverBulkCopy();

/// Runs others until somebody makes this thread runnable again. Copies only
/// arrive when there is nobody else to run.
void suspend(Wait wait, int barrier = 0, u32 parity = 0) {
  int self = state.thread, index = self / 32, lane = self % 32;
  Fiber &fiber = block.fibers[self];
  fiber.wait = wait;
  fiber.barrier = barrier;
  fiber.parity = parity;
  Warp &warp = block.warps[index];
  warp.runnable &= ~(1u << lane);
  if (!warp.runnable) {
    block.runnableWarps &= ~(1u << index);
    while (!block.runnableWarps && deliverBulkCopy())
      ;
    if (!block.runnableWarps)
      fail("deadlock, no thread can run" + describeThreads());
    index = pick(block.runnableWarps, index);
    lane = -1;
  }
  int next = 32 * index + pick(block.warps[index].runnable, lane);
  if (next != self) {
    state.thread = next;
    latheSwitchFiber(&fiber.stack, block.fibers[next].stack);
  }
  fiber.wait = Wait::kNothing;
}

//===----------------------------------------------------------------------===//
// Threads together
//===----------------------------------------------------------------------===//

void collective(const char *name, void *argument, EmulatorCollective execute) {
  Warp &warp = block.warps[state.thread / 32];
  if (warp.arrived && warp.name != name && strcmp(warp.name, name) != 0)
    fail(std::string("comes to ") + name + ", not where its warp is" +
         describeThreads());
  warp.name = name;
  warp.arguments[state.thread % 32] = argument;
  warp.arrived |= 1u << state.thread % 32;
  if (warp.arrived != warp.all)
    return suspend(Wait::kWarp);
  execute(warp.arguments);
  warp.arrived = 0;
  warp.runnable = warp.all;
}

void sync(int id, int threads) {
  if (id < 0 || id > 15 || threads % 32 || (id == 0) != (threads == 0))
    fail("syncNamed: the id must be 1 to 15 and the threads whole warps");
  NamedBarrier &barrier = block.named[id];
  if (barrier.waiting.count && barrier.threads != threads)
    fail("syncNamed: others wait for another number of threads" +
         describeThreads());
  barrier.threads = threads;
  barrier.waiting.insert(state.thread);
  if (barrier.waiting.count != (threads ? threads : block.alive))
    return suspend(Wait::kNamed, id);
  wake(barrier.waiting);
}

int barrierIndex(const u64 *b, const char *who) {
  checkShared(b, 8, 8, who);
  u64 index = *b - kMagic;
  if (index >= block.barriers.size() ||
      state.shared + block.barriers[index].offset !=
          reinterpret_cast<const char *>(b))
    fail(std::string(who) + ": not a barrier, or one that was overwritten");
  return index;
}

void barrierInit(u64 *b, int arrivals) {
  checkShared(b, 8, 8, "barrierInit");
  if (arrivals < 1)
    fail("barrierInit: no arrivals");
  *b = kMagic + block.barriers.size();
  i64 offset = reinterpret_cast<char *>(b) - state.shared;
  block.barriers.push_back({offset, arrivals, arrivals, 0, 0, {}});
}

void endPhaseIfDone(MemoryBarrier &b) {
  if (b.pending || b.bytes)
    return;
  ++b.phase;
  b.pending = b.arrivals;
  wake(b.waiting);
}

void barrierArrive(u64 *address, u32 bytes) {
  MemoryBarrier &b = block.barriers[barrierIndex(address, "barrierArrive")];
  if (b.pending == 0)
    fail("barrierArrive: more arrivals than the barrier counts");
  --b.pending;
  b.bytes += bytes;
  if (b.bytes >= 1 << 20)
    fail("barrierExpect: more bytes than a barrier counts");
  endPhaseIfDone(b);
}

void barrierWait(u64 *address, u32 parity) {
  if (parity > 1)
    fail("barrierWait: the parity must be 0 or 1");
  int index = barrierIndex(address, "barrierWait");
  while ((block.barriers[index].phase & 1) == parity) {
    block.barriers[index].waiting.insert(state.thread);
    suspend(Wait::kBarrier, index, parity);
  }
}

//===----------------------------------------------------------------------===//
// Copies. What was at the destination is gone as soon as one is under way.
//===----------------------------------------------------------------------===//

bool deliverBulkCopy() {
  if (block.bulkCopies.empty())
    return false;
  size_t i = block.order == Order::kShuffled
                 ? block.random() % block.bulkCopies.size()
                 : 0;
  BulkCopy copy = block.bulkCopies[i];
  block.bulkCopies.erase(block.bulkCopies.begin() + i);
  MemoryBarrier &b = block.barriers[copy.barrier];
  memcpy(copy.to, copy.from, copy.bytes);
  b.bytes -= copy.bytes;
  endPhaseIfDone(b);
  return true;
}

void copyBulk(void *to, const void *from, u32 bytes, u64 *barrier) {
  checkShared(to, bytes, 16, "copyBulk");
  int index = barrierIndex(barrier, "copyBulk");
  if (reinterpret_cast<u64>(from) % 16 || bytes % 16)
    fail("copyBulk: source or size is not a multiple of 16");
  memset(to, kPoison, bytes);
  block.bulkCopies.push_back({to, from, bytes, index});
  if (block.order == Order::kShuffled && block.random() >> 8 & 1)
    deliverBulkCopy();
}

void copyAsync16(void *to, const void *from, bool valid) {
  checkShared(to, 16, 16, "copyAsync16");
  if (reinterpret_cast<u64>(from) % 16)
    fail("copyAsync16: misaligned source");
  memset(to, kPoison, 16);
  Fiber &fiber = block.fibers[state.thread];
  fiber.copies.push_back({to, from, valid, fiber.groups});
}

/// Those of the running thread's groups before this one.
void finishCopies(int group) {
  auto &copies = block.fibers[state.thread].copies;
  auto copy = copies.begin();
  for (; copy != copies.end() && copy->group < group; ++copy)
    if (copy->valid)
      memcpy(copy->to, copy->from, 16);
    else
      memset(copy->to, 0, 16);
  copies.erase(copies.begin(), copy);
}

void copyWait(int pending) {
  finishCopies(block.fibers[state.thread].groups - pending);
}

//===----------------------------------------------------------------------===//
// Launching
//===----------------------------------------------------------------------===//

void runThread() {
  (*block.kernel)();
  copyWait(-1); // for what it has not even committed, too
  if (--block.alive == 0)
    leaveBlock();
  // A thread that has returned is no longer waited for, except by its warp.
  ThreadSet &waiting = block.named[0].waiting;
  if (waiting.count == block.alive)
    wake(waiting);
  suspend(Wait::kReturned);
}

void prepareBlock(const Grid &grid) {
  static FiberStacks stacks(kMaxThreads);
  memset(sharedArea, kGuard, kGuardBytes);
  memset(state.shared, kPoison, grid.sharedBytes);
  memset(state.shared + grid.sharedBytes, kGuard, kGuardBytes);
  block.alive = grid.threads;
  block.runnableWarps = 0;
  for (int i = 0; i < grid.threads; ++i) {
    Fiber &fiber = block.fibers[i];
    fiber.stack = stacks.prepare(i, runThread);
    fiber.wait = Wait::kNothing;
    fiber.copies.clear();
    fiber.groups = 0;
  }
  for (int i = 0; i < (grid.threads + 31) / 32; ++i) {
    u32 all = ~0u >> std::max(0, 32 * (i + 1) - grid.threads);
    block.warps[i] = {all, all, 0, nullptr, {}};
    block.runnableWarps |= 1u << i;
  }
  for (NamedBarrier &named : block.named)
    named = {};
  block.barriers.clear();
  block.bulkCopies.clear();
}

void runBlock(const Grid &grid) {
  prepareBlock(grid);
  int first = pick(block.runnableWarps, -1);
  state.thread = 32 * first + pick(block.warps[first].runnable, -1);
  latheSwitchFiber(&block.hostStack, block.fibers[state.thread].stack);
  if (!block.error.empty())
    return;
  if (!block.bulkCopies.empty())
    block.error = located("ended with a copyBulk under way");
  auto isGuard = [](char c) { return c == char(kGuard); };
  char *end = state.shared + state.sharedBytes;
  if (!std::all_of(end, end + kGuardBytes, isGuard))
    block.error = located("wrote behind its shared memory");
  if (!std::all_of(sharedArea, state.shared, isGuard))
    block.error = located("wrote before its shared memory");
}

constinit EmulatorTable state = {
    .shared = sharedArea + kGuardBytes,
    .fail = [](const char *message) { fail(message); },
    .collective = collective,
    .sync = sync,
    .copyAsync16 = copyAsync16,
    .copyCommit = [] { ++block.fibers[state.thread].groups; },
    .copyWait = copyWait,
    .barrierInit = barrierInit,
    .barrierArrive = barrierArrive,
    .barrierWait = barrierWait,
    .copyBulk = copyBulk,
    .fma = [](float a, float b, float c) { return std::fma(a, b, c); },
    .rsqrt = [](float x) { return float(1 / std::sqrt(double(x))); },
    .exp = [](float x) { return std::exp(x); },
    .exp2 = [](float x) { return std::exp2(x); },
    .log1p = [](float x) { return std::log1p(x); },
    .logDouble = [](double x) { return std::log(x); },
};

} // namespace

EmulatorTable *table() { return &state; }

std::string tryGrid(const Grid &grid, const std::function<void()> &thread) {
  if (grid.threads < 1 || grid.threads > kMaxThreads || grid.sharedBytes < 0 ||
      grid.sharedBytes > kMaxShared)
    return "more threads or shared memory than a block can have, or none";
  block.kernel = &thread;
  block.order = grid.order;
  block.random.seed(grid.seed);
  block.error.clear();
  block.threads = grid.threads;
  state.threads = grid.threads;
  state.gridX = grid.gridX;
  state.gridY = grid.gridY;
  state.sharedBytes = grid.sharedBytes;

  std::vector<int> blocks(grid.gridX * grid.gridY);
  std::iota(blocks.begin(), blocks.end(), 0);
  if (grid.order == Order::kDescending)
    std::reverse(blocks.begin(), blocks.end());
  if (grid.order == Order::kShuffled)
    std::shuffle(blocks.begin(), blocks.end(), block.random);
  for (int i : blocks) {
    state.blockX = i % grid.gridX;
    state.blockY = i / grid.gridX;
    runBlock(grid);
    if (!block.error.empty())
      break;
  }
  return block.error;
}

void runGrid(const Grid &grid, const std::function<void()> &thread) {
  if (tryGrid(grid, thread).empty())
    return;
  fprintf(stderr, "emulator: %s\n", block.error.c_str());
  abort();
}

} // namespace lathe::emulator

constinit lathe::EmulatorTable *lathe::latheEmulator = &lathe::emulator::state;
