#include "runtime/engine/ThreadTeam.h"

#include <sched.h>

namespace lathe {

namespace {
// About a hundred microseconds of pauses: longer than sampling a token.
constexpr int kSpinsBeforeSleep = 4000;
// A thread that has not arrived by then may be waiting for this core.
constexpr int kSpinsBeforeYield = 500;
} // namespace

static void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Spins until `value` differs from `old`, giving up the core now and then.
static void spinWhileEqual(const std::atomic<uint32_t> &value, uint32_t old) {
  for (int spins = 0; value.load(std::memory_order_acquire) == old; ++spins) {
    if (spins < kSpinsBeforeYield)
      pause();
    else
      sched_yield();
  }
}

ThreadTeam::ThreadTeam(int size) : count(size) {
  for (int i = 1; i < count; ++i)
    workers.emplace_back([this, i] { loop(i); });
}

ThreadTeam::~ThreadTeam() {
  stopping.store(true);
  generation.fetch_add(1, std::memory_order_release);
  generation.notify_all();
  for (std::thread &worker : workers)
    worker.join();
}

void ThreadTeam::loop(int thread) {
  uint32_t seen = 0;
  while (true) {
    for (int spins = 0; generation.load(std::memory_order_acquire) == seen;
         ++spins) {
      if (spins < kSpinsBeforeSleep)
        pause();
      else
        generation.wait(seen, std::memory_order_acquire);
    }
    ++seen;
    if (stopping.load())
      return;
    (*work)(thread);
    finished.fetch_add(1, std::memory_order_release);
  }
}

void ThreadTeam::run(const std::function<void(int)> &function) {
  if (count == 1)
    return function(0);
  work = &function;
  finished.store(0, std::memory_order_relaxed);
  generation.fetch_add(1, std::memory_order_release);
  generation.notify_all();
  function(0);
  for (uint32_t done = finished.load(std::memory_order_acquire);
       done != uint32_t(count - 1);
       done = finished.load(std::memory_order_acquire))
    spinWhileEqual(finished, done);
}

void ThreadTeam::barrier() {
  if (count == 1)
    return;
  uint32_t round = passed.load(std::memory_order_relaxed);
  if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == uint32_t(count)) {
    arrived.store(0, std::memory_order_relaxed);
    passed.store(round + 1, std::memory_order_release);
    return;
  }
  spinWhileEqual(passed, round);
}

} // namespace lathe
