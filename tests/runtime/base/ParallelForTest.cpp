#include "runtime/base/ParallelFor.h"

#include <gtest/gtest.h>

#include <mutex>
#include <set>

namespace lathe {
namespace {

TEST(ParallelFor, CallsEachOnce) {
  for (int threads : {-1, 0, 1, 2, 7})
    for (size_t count : {0, 1, 2, 6, 7, 1000}) {
      std::vector<int> calls(count);
      parallelFor(count, threads, [&](size_t i) { ++calls[i]; });
      EXPECT_EQ(calls, std::vector<int>(count, 1)) << threads;
    }
}

TEST(ParallelFor, OneThreadIsTheCallerInOrder) {
  std::vector<size_t> order;
  const auto caller = std::this_thread::get_id();
  parallelFor(5, 1, [&](size_t i) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    order.push_back(i);
  });
  EXPECT_EQ(order, (std::vector<size_t>{0, 1, 2, 3, 4}));
}

TEST(ParallelFor, ThreadsRunAtTheSameTime) {
  // Each call waits until all three have begun.
  std::atomic<int> begun{0};
  std::mutex mutex;
  std::set<std::thread::id> ids;
  parallelFor(3, 3, [&](size_t) {
    ++begun;
    while (begun < 3)
      std::this_thread::yield();
    std::lock_guard<std::mutex> lock(mutex);
    ids.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(ids.size(), 3u);
}

TEST(ParallelFor, NoMoreThreadsThanWork) {
  std::mutex mutex;
  std::set<std::thread::id> ids;
  parallelFor(2, 100, [&](size_t) {
    std::lock_guard<std::mutex> lock(mutex);
    ids.insert(std::this_thread::get_id());
  });
  EXPECT_LE(ids.size(), 2u);
}

} // namespace
} // namespace lathe
