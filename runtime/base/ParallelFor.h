//===- ParallelFor.h - a loop on several threads ----------------*- C++ -*-===//

#ifndef LATHE_RUNTIME_BASE_PARALLELFOR_H
#define LATHE_RUNTIME_BASE_PARALLELFOR_H

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace lathe {

/// Calls `work(i)` for every i in [0, count) on up to `threads` threads, this
/// one included; they are begun in order. What the calls wrote is visible
/// afterwards. `work` must not throw.
template <class Work>
void parallelFor(size_t count, int threads, const Work &work) {
  std::atomic<size_t> next{0};
  auto drain = [&] {
    for (size_t i; (i = next.fetch_add(1)) < count;)
      work(i);
  };
  const size_t most =
      std::min(count, static_cast<size_t>(std::max(threads, 1)));
  std::vector<std::jthread> helpers;
  for (size_t t = 1; t < most; ++t)
    helpers.emplace_back(drain);
  drain();
}

} // namespace lathe

#endif // LATHE_RUNTIME_BASE_PARALLELFOR_H
