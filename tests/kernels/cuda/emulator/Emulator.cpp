#include "tests/kernels/cuda/emulator/Block.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <span>

namespace lathe::emulator {

Block *block;
Launch launch;

namespace {

//===----------------------------------------------------------------------===//
// Failing
//===----------------------------------------------------------------------===//

std::string describe(const Fiber &fiber) {
  switch (fiber.wait) {
  case Wait::kNothing:
    return "can run";
  case Wait::kWarp:
    return std::string("waits for its warp in ") +
           block->warps[(&fiber - block->fibers) / 32].name;
  case Wait::kNamed:
    return fiber.barrier ? "waits in syncNamed " + std::to_string(fiber.barrier)
                         : "waits in syncThreads";
  case Wait::kBarrier: {
    const MemoryBarrier &b = block->barriers[fiber.barrier];
    return "waits for parity " + std::to_string(fiber.parity) +
           " of the barrier at " + std::to_string(b.offset) + ", which lacks " +
           std::to_string(b.pending) + " arrivals and " +
           std::to_string(b.bytes) + " bytes";
  }
  case Wait::kCount:
    return "waits for a count of " + std::to_string(fiber.wanted) + ", not " +
           std::to_string(*fiber.count);
  case Wait::kReturned:
    return "has returned";
  }
  return "";
}

/// One line for every run of threads that wait for the same.
std::string describeThreads() {
  std::string text;
  for (int i = 0, end; i < launch.threads; i = end) {
    std::string doing = describe(block->fibers[i]);
    for (end = i + 1; end < launch.threads; ++end)
      if (describe(block->fibers[end]) != doing)
        break;
    text += "\n  " + std::to_string(i);
    text += end > i + 1 ? "-" + std::to_string(end - 1) : "";
    text += ": " + doing;
  }
  return text;
}

/// Goes back to runBlock(), which may come back to this thread.
void leaveBlock() {
  latheSwitchFiber(&block->fibers[state.thread].stack, launch.hostStack);
}

std::string located(const std::string &message) {
  return "block (" + std::to_string(state.blockX) + ", " +
         std::to_string(state.blockY) + "): " + message;
}

} // namespace

void fail(const std::string &message) {
  launch.error =
      located("thread " + std::to_string(state.thread) + ": " + message);
  leaveBlock();
  __builtin_unreachable();
}

namespace {

//===----------------------------------------------------------------------===//
// Scheduling
//===----------------------------------------------------------------------===//

/// The member of `set` that follows `current` in this launch's order, or the
/// first one after -1.
int pick(u32 set, int current) {
  if (launch.order == Order::kDescending) {
    int turn = (32 - std::max(current, 0)) % 32; // brings current - 1 to 31
    return (63 - std::countl_zero(std::rotl(set, turn)) - turn) % 32;
  }
  int turn = launch.order == Order::kShuffled ? launch.random() >> 8 & 31
                                              : (current + 1) % 32;
  return (std::countr_zero(std::rotr(set, turn)) + turn) % 32;
}

/// Wakes the threads that wait for a count which has come.
void wakeCounting() {
  for (int i = 0; i < launch.threads; ++i) {
    const Fiber &fiber = block->fibers[i];
    if (fiber.wait == Wait::kCount && *fiber.count >= fiber.wanted) {
      block->warps[i / 32].runnable |= 1u << i % 32;
      block->runnableWarps |= 1u << i / 32;
    }
  }
}

/// Whether a thread of the block can run. Copies only arrive when there is
/// nobody else to run.
bool canRun() {
  while (!block->runnableWarps && deliver())
    ;
  if (!block->runnableWarps)
    wakeCounting();
  return block->runnableWarps != 0;
}

} // namespace

void wake(ThreadSet &set) {
  for (int i = 0; i < kMaxWarps; ++i)
    if (set.lanes[i]) {
      block->warps[i].runnable |= set.lanes[i];
      block->runnableWarps |= 1u << i;
    }
  set = {};
}

void suspend(Wait wait, int barrier, u32 parity) {
  int self = state.thread, index = self / 32, lane = self % 32;
  Fiber &fiber = block->fibers[self];
  fiber.wait = wait;
  fiber.barrier = barrier;
  fiber.parity = parity;
  Warp &warp = block->warps[index];
  warp.runnable &= ~(1u << lane);
  const bool others = warp.runnable;
  if (!others)
    block->runnableWarps &= ~(1u << index);
  if (!others && !canRun()) {
    leaveBlock(); // for another block
  } else {
    if (!others) {
      index = pick(block->runnableWarps, index);
      lane = -1;
    }
    int next = 32 * index + pick(block->warps[index].runnable, lane);
    if (next != self) {
      state.thread = next;
      latheSwitchFiber(&fiber.stack, block->fibers[next].stack);
    }
  }
  fiber.wait = Wait::kNothing;
}

namespace {

//===----------------------------------------------------------------------===//
// Threads together
//===----------------------------------------------------------------------===//

void collective(const char *name, void *argument, EmulatorCollective execute) {
  Warp &warp = block->warps[state.thread / 32];
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
  if (id < 0 || id > 15 || threads % 32 || (id != 0 && threads == 0))
    fail("syncNamed: the id must be 0 to 15 and the threads whole warps");
  NamedBarrier &barrier = block->named[id];
  if (barrier.waiting.count && barrier.threads != threads)
    fail("syncNamed: others wait for another number of threads" +
         describeThreads());
  barrier.threads = threads;
  barrier.waiting.insert(state.thread);
  if (barrier.waiting.count != (threads ? threads : block->alive))
    return suspend(Wait::kNamed, id);
  wake(barrier.waiting);
}

//===----------------------------------------------------------------------===//
// Launching
//===----------------------------------------------------------------------===//

void runThread() {
  (*launch.kernel)();
  copyWait(-1); // for what it has not even committed, too
  if (--block->alive == 0)
    leaveBlock();
  // A thread that has returned is no longer waited for, except by its warp.
  NamedBarrier &all = block->named[0];
  if (all.threads == 0 && all.waiting.count == block->alive)
    wake(all.waiting);
  suspend(Wait::kReturned);
}

void prepareBlock(const Grid &grid, int number) {
  block->x = number % grid.gridX;
  block->y = number / grid.gridX;
  block->current = -1;
  memset(block->sharedArea, kGuard, kGuardBytes);
  memset(block->shared(), kPoison, grid.sharedBytes);
  memset(block->shared() + grid.sharedBytes, kGuard, kGuardBytes);
  block->alive = grid.threads;
  block->runnableWarps = 0;
  for (int i = 0; i < grid.threads; ++i) {
    Fiber &fiber = block->fibers[i];
    fiber.stack = block->stacks.prepare(i, runThread);
    fiber.wait = Wait::kNothing;
    fiber.copies.clear();
    fiber.groups = 0;
    fiber.warpgroup = {};
  }
  for (int i = 0; i < (grid.threads + 31) / 32; ++i) {
    u32 all = ~0u >> std::max(0, 32 * (i + 1) - grid.threads);
    block->warps[i] = {all, all, 0, nullptr, {}};
    block->runnableWarps |= 1u << i;
  }
  for (NamedBarrier &named : block->named)
    named = {};
  block->barriers.clear();
  block->bulkCopies.clear();
  block->twinStores.clear();
  block->twin = nullptr;
  block->clusterArrived = 0;
}

void checkEnd() {
  if (!block->bulkCopies.empty() || !block->twinStores.empty())
    launch.error = located("ended with a copyBulk under way or a storeTwin");
  auto isGuard = [](char c) { return c == char(kGuard); };
  char *end = state.shared + state.sharedBytes;
  if (!std::all_of(end, end + kGuardBytes, isGuard))
    launch.error = located("wrote behind its shared memory");
  if (!std::all_of(block->sharedArea, state.shared, isGuard))
    launch.error = located("wrote before its shared memory");
}

void enter(Block &next) {
  block = &next;
  state.blockX = next.x;
  state.blockY = next.y;
  state.shared = next.shared();
  state.thread = next.current;
}

/// Runs the block until it has ended or none of its threads can run; whether
/// any could.
bool runBlock() {
  if (!canRun())
    return false;
  const int last = std::max(block->current, 0);
  const int first =
      pick(block->runnableWarps, block->current < 0 ? -1 : last / 32);
  state.thread = 32 * first + pick(block->warps[first].runnable, -1);
  latheSwitchFiber(&launch.hostStack, block->fibers[state.thread].stack);
  block->current = state.thread;
  if (launch.error.empty() && block->alive == 0)
    checkEnd();
  return true;
}

/// Runs blocks in turn until all have ended or one has failed.
void runTogether(std::span<Block *const> blocks) {
  for (bool moved = true, ended = false; !ended;) {
    ended = true;
    moved = false;
    for (Block *next : blocks) {
      if (next->alive == 0)
        continue;
      enter(*next);
      moved |= runBlock();
      if (!launch.error.empty())
        return;
      ended &= next->alive == 0;
    }
    if (!moved && !ended) {
      launch.error =
          located("thread " + std::to_string(state.thread) +
                  ": deadlock, no thread can run" + describeThreads());
      return;
    }
  }
}

/// As many as run at a time; kept from launch to launch.
std::span<Block *const> blocksFor(int count) {
  static std::vector<std::unique_ptr<Block>> owned;
  static std::vector<Block *> blocks;
  while (int(owned.size()) < count) {
    owned.push_back(std::make_unique<Block>());
    blocks.push_back(owned.back().get());
  }
  return std::span(blocks).first(size_t(count));
}

} // namespace

constinit EmulatorTable state = {
    .shared = nullptr,
    .fail = [](const char *message) { fail(message); },
    .collective = collective,
    .sync = sync,
    .waitForCount = waitForCount,
    .copyAsync16 = copyAsync16,
    .copyCommit = [] { ++block->fibers[state.thread].groups; },
    .copyWait = copyWait,
    .barrierInit = barrierInit,
    .barrierArrive = barrierArrive,
    .barrierWait = barrierWait,
    .clusterArrive = clusterArrive,
    .clusterWait = clusterWait,
    .storeTwin = storeTwin,
    .copyBulk = copyBulk,
    .warpgroup = [] { return &block->fibers[state.thread].warpgroup; },
    .fma = [](float a, float b, float c) { return std::fma(a, b, c); },
    .rsqrt = [](float x) { return float(1 / std::sqrt(double(x))); },
    .exp = [](float x) { return std::exp(x); },
    .exp2 = [](float x) { return std::exp2(x); },
    .log1p = [](float x) { return std::log1p(x); },
    .logDouble = [](double x) { return std::log(x); },
};

EmulatorTable *table() { return &state; }

std::string tryGrid(const Grid &grid, const std::function<void()> &thread) {
  if (grid.threads < 1 || grid.threads > kMaxThreads || grid.sharedBytes < 0 ||
      grid.sharedBytes > kMaxShared)
    return "more threads or shared memory than a block can have, or none";
  launch = {&thread, grid.order, std::minstd_rand(grid.seed),
            "",      nullptr,    grid.threads};
  state.threads = grid.threads;
  state.gridX = grid.gridX;
  state.gridY = grid.gridY;
  state.sharedBytes = grid.sharedBytes;

  // Twins stay side by side.
  const int each = grid.twins ? 2 : 1;
  if (grid.gridX % each)
    return "an odd number of blocks has no twins";
  std::vector<int> numbers(grid.gridX * grid.gridY / each);
  std::iota(numbers.begin(), numbers.end(), 0);
  if (grid.order == Order::kDescending)
    std::reverse(numbers.begin(), numbers.end());
  if (grid.order == Order::kShuffled)
    std::shuffle(numbers.begin(), numbers.end(), launch.random);
  const size_t atOnce = grid.together ? numbers.size() : 1;
  const std::span<Block *const> blocks = blocksFor(int(atOnce) * each);
  for (size_t i = 0; i < numbers.size() && launch.error.empty(); i += atOnce) {
    for (size_t k = 0; k < blocks.size(); ++k) {
      block = blocks[k];
      prepareBlock(grid, numbers[i + k / each] * each + int(k) % each);
    }
    if (grid.twins)
      for (size_t k = 0; k < blocks.size(); ++k)
        blocks[k]->twin = blocks[k ^ 1];
    runTogether(blocks);
  }
  return launch.error;
}

void runGrid(const Grid &grid, const std::function<void()> &thread) {
  if (tryGrid(grid, thread).empty())
    return;
  fprintf(stderr, "emulator: %s\n", launch.error.c_str());
  abort();
}

} // namespace lathe::emulator

constinit lathe::EmulatorTable *lathe::latheEmulator = &lathe::emulator::state;
