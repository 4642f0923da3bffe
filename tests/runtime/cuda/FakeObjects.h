//===- FakeObjects.h - inside the fake driver -------------------*- C++ -*-===//
//
// The driver's opaque objects as libfakecuda.so has them, and its state.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_RUNTIME_CUDA_FAKEOBJECTS_H
#define LATHE_TESTS_RUNTIME_CUDA_FAKEOBJECTS_H

#include "tests/runtime/cuda/FakeDriver.h"

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

// Declared from the table, so that a definition of another type does not
// compile.
namespace lathe::cuda::abi {
extern "C" {
#define LATHE_CUDA_SYMBOL(name, symbol, parameters) CUresult symbol parameters;
#include "runtime/cuda/DriverSymbols.def"
}
} // namespace lathe::cuda::abi

namespace lathe::cuda::abi {

struct CUctx_st {};
struct CUmod_st {
  std::map<std::string, CUfunc_st *> functions;
};
struct CUfunc_st {
  std::string name;
  int maxDynamicShared = 48 << 10;
};
struct CUgraph_st {
  std::vector<std::function<void()>> nodes;
};
struct CUgraphExec_st : CUgraph_st {};
struct CUstream_st {
  bool capturing = false;
  bool spoilt = false;
  CUgraph_st captured;
  std::deque<std::function<void()>> queued; ///< when deferred
};
struct CUevent_st {
  bool timed = false;
  int recorded = 0;
  int pending = 0; ///< records that are queued
};

} // namespace lathe::cuda::abi

namespace lathe::cuda::fake {

using namespace abi;

inline constexpr CUresult kInvalidContext = CUresult(201);

struct Driver {
  Config config;
  State state;
  CUctx_st context;
  std::map<CUdeviceptr, size_t> memory, pinned; ///< sizes by start
  std::vector<CUstream> streams;
  int clock = 0;
};

/// The one instance.
Driver &driver();
/// The calling thread's context.
CUcontext &current();
/// Whether a stream is capturing, which the caller's function spoils.
bool forbiddenNow();
/// Runs `work` now, queues it, or adds it to the graph that `stream` is
/// capturing.
CUresult submit(CUstream stream, std::function<void()> work);
/// Runs what is queued in `stream`, or in all streams.
void drain(CUstream stream);
void drainAll();

inline void *pointer(CUdeviceptr address) {
  return reinterpret_cast<void *>(address);
}

} // namespace lathe::cuda::fake

#endif // LATHE_TESTS_RUNTIME_CUDA_FAKEOBJECTS_H
