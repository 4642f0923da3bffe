//===- AlignedBuffer.h - memory for weights, states and scratch -*- C++ -*-===//

#ifndef LATHE_RUNTIME_MEMORY_ALIGNEDBUFFER_H
#define LATHE_RUNTIME_MEMORY_ALIGNEDBUFFER_H

#include "runtime/base/Status.h"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace lathe {

/// Owns zeroed pages, aligned to a page; large ones ask for huge pages.
class AlignedBuffer {
public:
  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer &&other) noexcept
      : bytes(std::exchange(other.bytes, nullptr)),
        length(std::exchange(other.length, 0)) {}
  AlignedBuffer &operator=(AlignedBuffer &&other) noexcept {
    std::swap(bytes, other.bytes);
    std::swap(length, other.length);
    return *this;
  }
  ~AlignedBuffer();

  /// Fails with capacityError when the system refuses.
  static StatusOr<AlignedBuffer> allocate(int64_t size);

  uint8_t *data() const { return bytes; }
  int64_t size() const { return length; }

private:
  uint8_t *bytes = nullptr;
  int64_t length = 0;
};

} // namespace lathe

#endif // LATHE_RUNTIME_MEMORY_ALIGNEDBUFFER_H
