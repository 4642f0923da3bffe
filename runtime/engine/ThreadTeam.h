//===- ThreadTeam.h - threads that work in lockstep -------------*- C++ -*-===//
//
// A fixed team that runs the same function on every thread. Between runs the
// workers spin for a moment, because the next decode step follows at once, and
// then sleep. The caller is thread 0.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_THREADTEAM_H
#define LATHE_RUNTIME_ENGINE_THREADTEAM_H

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

namespace lathe {

/// One owner at a time calls run(); the function may call barrier().
class ThreadTeam {
public:
  /// REQUIRES: size >= 1.
  explicit ThreadTeam(int size);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam &) = delete;
  ThreadTeam &operator=(const ThreadTeam &) = delete;

  int size() const { return count; }

  /// Calls work(thread) on every thread and returns when all have returned.
  void run(const std::function<void(int)> &work);

  /// Waits inside run() until every thread has arrived.
  void barrier();

private:
  void loop(int thread);

  const int count;
  std::vector<std::thread> workers;
  const std::function<void(int)> *work = nullptr;
  alignas(64) std::atomic<uint32_t> generation{0};
  alignas(64) std::atomic<uint32_t> finished{0};
  alignas(64) std::atomic<uint32_t> arrived{0};
  alignas(64) std::atomic<uint32_t> passed{0};
  std::atomic<bool> stopping{false};
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_THREADTEAM_H
