//===- Context.h - one GPU in use -------------------------------*- C++ -*-===//
//
// Holds a GPU's primary context and counts what is asked of it. Everything made
// from a Context (Buffer.h, Module.h, Stream.h) refers to it and must be
// destroyed before it.
//
// Threads: any thread may use a Context and what was made from it; every call
// first makes the context current on its thread. One object (a stream, an
// event) serves one thread at a time.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_CUDA_CONTEXT_H
#define LATHE_RUNTIME_CUDA_CONTEXT_H

#include "runtime/base/Status.h"
#include "runtime/cuda/Driver.h"
#include "runtime/cuda/DriverApi.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

namespace lathe::cuda {

/// What the host has asked of the GPU since the last reset. A decode step may
/// add launches and copies of a few bytes only; tests assert that.
struct Counters {
  uint64_t allocations = 0; ///< device and pinned buffers that succeeded
  uint64_t frees = 0;
  uint64_t launches = 0; ///< kernels, those being captured included
  uint64_t graphInstantiations = 0;
  uint64_t graphLaunches = 0;
  uint64_t synchronizations = 0;   ///< the host waited: stream or event
  uint64_t hostToDeviceCopies = 0; ///< copies within a replayed graph are the
  uint64_t deviceToHostCopies = 0; ///< graph's, counted once, when captured
  uint64_t hostToDeviceBytes = 0;
  uint64_t deviceToHostBytes = 0;
};

class Context {
public:
  /// Retains the primary context of device `ordinal`. Errors: usageError for
  /// an ordinal that does not exist; capacityError when the GPU is in
  /// exclusive use or has no memory left for a context.
  static StatusOr<std::unique_ptr<Context>>
  create(std::shared_ptr<const Driver> driver, int ordinal);

  /// REQUIRES: everything made from this context is gone.
  ~Context();
  Context(const Context &) = delete;
  Context &operator=(const Context &) = delete;

  const Driver &driver() const { return *owner; }
  const DeviceInfo &device() const { return info; }

  /// Device memory right now, over all processes.
  StatusOr<MemoryInfo> memory() const;

  /// What was asked since creation or the last reset.
  Counters counters() const;
  void resetCounters();

  // What follows is for the other classes of this folder.

  /// OK, or `result` of the driver call `call` as a Status; `detail` says
  /// about what, and may be empty.
  Status check(abi::CUresult result, std::string_view call,
               std::string_view detail = {}) const;

  /// Makes the context current on this thread: tens of nanoseconds.
  Status enter() const;
  const DriverApi &api() const { return owner->api(); }

  /// Destroy or free, from any thread. Errors are dropped: a broken context
  /// reports them at its next call.
  void release(abi::CUdeviceptr buffer);
  void release(void *pinned);
  void release(abi::CUstream stream);
  void release(abi::CUevent event);
  void release(abi::CUmodule module);
  void release(abi::CUgraphExec graph);

  /// Counters, as the calls of several threads add to them.
  struct AtomicCounters {
    std::atomic<uint64_t> allocations{0}, frees{0}, launches{0},
        graphInstantiations{0}, graphLaunches{0}, synchronizations{0},
        hostToDeviceCopies{0}, deviceToHostCopies{0}, hostToDeviceBytes{0},
        deviceToHostBytes{0};
  };
  AtomicCounters &count() { return totals; }

private:
  Context(std::shared_ptr<const Driver> driver, DeviceInfo device,
          abi::CUdevice handle, abi::CUcontext context);

  std::shared_ptr<const Driver> owner;
  DeviceInfo info;
  abi::CUdevice handle;
  abi::CUcontext context;
  AtomicCounters totals;
};

} // namespace lathe::cuda

#endif // LATHE_RUNTIME_CUDA_CONTEXT_H
