//===- FakeDriver.h - a libcuda without a GPU -------------------*- C++ -*-===//
//
// Controls of libfakecuda.so, a shared library that exports what DriverApi
// loads. "Device" memory is host memory, streams run at once, a captured graph
// is a list of closures. As strict as the driver where a test depends on it:
// every call needs a current context, an address must lie in an allocation, and
// what a capture forbids spoils it. With Config::deferred, work waits until the
// host waits for it, as late as a GPU can be.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_RUNTIME_CUDA_FAKEDRIVER_H
#define LATHE_TESTS_RUNTIME_CUDA_FAKEDRIVER_H

#include "runtime/cuda/DriverApi.h"

#include <cstddef>
#include <functional>
#include <string_view>

namespace lathe::cuda::fake {

/// Stands for the code of kernels: called when a launch is queued or captured,
/// while `arguments` live; what it returns runs with every play, and may be
/// null.
using Kernels = std::function<std::function<void()>(
    std::string_view entry, const abi::LaunchConfig &shape, void **arguments)>;

/// What the driver claims and how it fails; set before or between calls.
struct Config {
  int version = 13000;
  int devices = 1;
  int major = 9, minor = 0;
  size_t totalBytes = size_t(1) << 30;
  int failAllocation = 0; ///< the Nth allocation from now fails; 0: none does
  bool eventsReady = true;
  abi::CUresult initResult = abi::Success;
  abi::CUresult retainResult = abi::Success;
  abi::CUresult launchResult = abi::Success; ///< of kernels and graphs
  abi::CUresult waitResult = abi::Success;   ///< of waiting on the host
  bool deferred = false;
  Kernels kernels; ///< may be null
};

/// What is alive, and what was seen.
struct State {
  int buffers = 0, pinned = 0, streams = 0, events = 0, modules = 0;
  int graphs = 0, graphExecs = 0, contexts = 0;
  size_t usedBytes = 0;
  int allocations = 0; ///< device and pinned buffers ever asked for
  int launches = 0;    ///< executed, replays included
  bool lastProgrammatic = false;
  unsigned lastDynamicShared = 0;
  int maxDynamicShared = 0; ///< as last set on a function

  int alive() const {
    return buffers + pinned + streams + events + modules + graphs + graphExecs +
           contexts;
  }
};

/// Entries that a fake image can have, by name: "add" takes (float *data, int
/// count, float value); every other name does what Config::kernels says.
inline constexpr const char *kAdd = "add";

} // namespace lathe::cuda::fake

extern "C" {
lathe::cuda::fake::Config *latheFakeConfig();
lathe::cuda::fake::State *latheFakeState();
/// The defaults again. REQUIRES: nothing is alive.
void latheFakeReset();
}

#endif // LATHE_TESTS_RUNTIME_CUDA_FAKEDRIVER_H
