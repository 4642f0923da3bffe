//===- Buffer.h - device memory and pinned host memory ----------*- C++ -*-===//
//
// Movable owners of memory. Freeing waits for the GPU's running work, so
// buffers are made before the first step and live until the end.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_CUDA_BUFFER_H
#define LATHE_RUNTIME_CUDA_BUFFER_H

#include "runtime/cuda/Context.h"
#include "runtime/cuda/Owned.h"

#include <cstddef>

namespace lathe::cuda {

/// A byte address on the GPU; add offsets freely. A kernel parameter of
/// pointer type takes a pointer to one.
using DeviceAddress = abi::CUdeviceptr;

/// Memory of one GPU, aligned to 256 bytes, undefined at first (Stream::fill).
class DeviceBuffer {
public:
  /// No memory, address 0.
  DeviceBuffer() = default;

  /// 0 bytes give an empty buffer. Errors: capacityError that says how much
  /// was asked for and how much is free.
  static StatusOr<DeviceBuffer> allocate(Context &context, size_t bytes);

  DeviceAddress address() const { return memory.get(); }
  size_t size() const { return bytes; }

private:
  Owned<abi::CUdeviceptr> memory;
  size_t bytes = 0;
};

/// Page-locked host memory: copies from and to it run at full speed and do not
/// wait. Undefined at first.
class PinnedBuffer {
public:
  PinnedBuffer() = default;

  /// 0 bytes give an empty buffer. Errors: capacityError when the system
  /// cannot lock that much.
  static StatusOr<PinnedBuffer> allocate(Context &context, size_t bytes);

  std::byte *data() const { return static_cast<std::byte *>(memory.get()); }
  size_t size() const { return bytes; }
  /// The same memory for kernels, which read and write it over the bus.
  DeviceAddress address() const {
    return reinterpret_cast<DeviceAddress>(memory.get());
  }

private:
  Owned<void *> memory;
  size_t bytes = 0;
};

} // namespace lathe::cuda

#endif // LATHE_RUNTIME_CUDA_BUFFER_H
