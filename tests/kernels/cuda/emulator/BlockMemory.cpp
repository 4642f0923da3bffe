#include "tests/kernels/cuda/emulator/Block.h"

#include <algorithm>
#include <cstring>

namespace lathe::emulator {

void checkShared(const void *p, u64 bytes, u64 alignment, const char *who) {
  u64 offset = static_cast<const char *>(p) - state.shared;
  if (offset > state.sharedBytes || bytes > state.sharedBytes - offset)
    fail(std::string(who) + " outside shared memory");
  if (offset % alignment)
    fail(std::string(who) + ": misaligned shared memory");
}

static int barrierIndex(const u64 *b, const char *who) {
  checkShared(b, 8, 8, who);
  u64 index = *b - kMagic;
  if (index >= block->barriers.size() ||
      state.shared + block->barriers[index].offset !=
          reinterpret_cast<const char *>(b))
    fail(std::string(who) + ": not a barrier, or one that was overwritten");
  return index;
}

void barrierInit(u64 *b, int arrivals) {
  checkShared(b, 8, 8, "barrierInit");
  if (arrivals < 1)
    fail("barrierInit: no arrivals");
  *b = kMagic + block->barriers.size();
  i64 offset = reinterpret_cast<char *>(b) - state.shared;
  block->barriers.push_back({offset, arrivals, arrivals, 0, 0, {}});
}

static void endPhaseIfDone(MemoryBarrier &b) {
  if (b.pending || b.bytes)
    return;
  ++b.phase;
  b.pending = b.arrivals;
  wake(b.waiting);
}

void barrierArrive(u64 *address, u32 bytes) {
  MemoryBarrier &b = block->barriers[barrierIndex(address, "barrierArrive")];
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
  while ((block->barriers[index].phase & 1) == parity) {
    block->barriers[index].waiting.insert(state.thread);
    suspend(Wait::kBarrier, index, parity);
  }
}

void waitForCount(const u32 *p, u32 count) {
  Fiber &fiber = block->fibers[state.thread];
  fiber.count = p;
  fiber.wanted = count;
  while (*p < count)
    suspend(Wait::kCount);
}

//===----------------------------------------------------------------------===//
// The other of two twins
//===----------------------------------------------------------------------===//

void clusterArrive() {
  if (block->clusterArrived == u32(launch.threads))
    fail("clusterArrive: only once per launch");
  ++block->clusterArrived;
}

void clusterWait() {
  waitForCount(&block->clusterArrived, u32(launch.threads));
  if (block->twin)
    waitForCount(&block->twin->clusterArrived, u32(launch.threads));
}

static void enterTwin(Block *next) {
  block = next;
  state.shared = next->shared();
}

void storeTwin(void *p, const void *value, u32 bytes, u64 *b) {
  checkShared(p, bytes, bytes, "storeTwin");
  Block *self = block, *twin = block->twin;
  if (!twin || twin->alive == 0)
    fail("storeTwin: there is no other block, or it has ended");
  if (std::min(self->clusterArrived, twin->clusterArrived) !=
      u32(launch.threads))
    fail("storeTwin: not all threads of both blocks have come to "
         "clusterArrive");
  const i64 offset = static_cast<char *>(p) - state.shared;
  const i64 barrier = reinterpret_cast<char *>(b) - state.shared;
  enterTwin(twin);
  const int index = barrierIndex(
      reinterpret_cast<u64 *>(state.shared + barrier), "storeTwin");
  char *const to = state.shared + offset;
  memset(to, kPoison, bytes);
  TwinStore store{to, 0, bytes, index};
  memcpy(&store.value, value, bytes);
  twin->twinStores.push_back(store);
  enterTwin(self);
}

//===----------------------------------------------------------------------===//
// Copies. What was at the destination is gone as soon as one is under way.
//===----------------------------------------------------------------------===//

static bool deliverTwinStore() {
  auto &stores = block->twinStores;
  if (stores.empty())
    return false;
  const size_t i =
      launch.order == Order::kShuffled ? launch.random() % stores.size() : 0;
  const TwinStore store = stores[i];
  stores.erase(stores.begin() + i);
  memcpy(store.to, &store.value, store.bytes);
  // The bytes may come before they are expected.
  MemoryBarrier &there = block->barriers[store.barrier];
  there.bytes -= store.bytes;
  endPhaseIfDone(there);
  return true;
}

bool deliver() {
  if (block->bulkCopies.empty())
    return deliverTwinStore();
  size_t i = launch.order == Order::kShuffled
                 ? launch.random() % block->bulkCopies.size()
                 : 0;
  BulkCopy copy = block->bulkCopies[i];
  block->bulkCopies.erase(block->bulkCopies.begin() + i);
  MemoryBarrier &b = block->barriers[copy.barrier];
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
  block->bulkCopies.push_back({to, from, bytes, index});
  if (launch.order == Order::kShuffled && launch.random() >> 8 & 1)
    deliver();
}

void copyAsync16(void *to, const void *from, bool valid) {
  checkShared(to, 16, 16, "copyAsync16");
  if (reinterpret_cast<u64>(from) % 16)
    fail("copyAsync16: misaligned source");
  memset(to, kPoison, 16);
  Fiber &fiber = block->fibers[state.thread];
  fiber.copies.push_back({to, from, valid, fiber.groups});
}

/// Those of the running thread's groups before this one.
static void finishCopies(int group) {
  auto &copies = block->fibers[state.thread].copies;
  auto copy = copies.begin();
  for (; copy != copies.end() && copy->group < group; ++copy)
    if (copy->valid)
      memcpy(copy->to, copy->from, 16);
    else
      memset(copy->to, 0, 16);
  copies.erase(copies.begin(), copy);
}

void copyWait(int pending) {
  finishCopies(block->fibers[state.thread].groups - pending);
}

} // namespace lathe::emulator
