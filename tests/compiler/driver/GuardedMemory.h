//===- GuardedMemory.h - bytes with a guard behind --------------*- C++ -*-===//

#ifndef LATHE_TESTS_COMPILER_DRIVER_GUARDEDMEMORY_H
#define LATHE_TESTS_COMPILER_DRIVER_GUARDEDMEMORY_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace lathe::difftest {

/// Four of them make a NaN.
inline constexpr int kPoison = 0xff;

/// A buffer that tells whether somebody wrote behind it. Copies are of equal
/// content, each aligned for itself.
class GuardedMemory {
public:
  static constexpr size_t kAlignment = 256, kGuard = 64;

  GuardedMemory() = default;
  GuardedMemory(const GuardedMemory &other) { *this = other; }
  GuardedMemory &operator=(const GuardedMemory &other) {
    if (this == &other)
      return *this;
    reserve(other.bytes, 0);
    if (!other.memory.empty())
      std::memcpy(data(), other.data(), bytes + kGuard);
    return *this;
  }
  // A vector's elements stay where they are.
  GuardedMemory(GuardedMemory &&) = default;
  GuardedMemory &operator=(GuardedMemory &&) = default;

  void reserve(size_t count, int fill) {
    bytes = count;
    memory.assign(all() + kAlignment, uint8_t(fill));
    offset = size_t(-reinterpret_cast<uintptr_t>(memory.data())) % kAlignment;
    std::memset(data() + bytes, kGuardByte, kGuard);
  }
  /// reserve() and the content.
  template <class T> void assign(const std::vector<T> &values) {
    reserve(values.size() * sizeof(T), kPoison);
    if (!values.empty())
      std::memcpy(data(), values.data(), bytes);
  }

  bool guardIsIntact() const {
    return std::all_of(data() + bytes, data() + all(),
                       [](uint8_t byte) { return byte == kGuardByte; });
  }

  size_t size() const { return bytes; }
  /// Bytes from data() on with the guard.
  size_t all() const { return bytes + kGuard; }
  uint8_t *data() { return memory.data() + offset; }
  const uint8_t *data() const { return memory.data() + offset; }
  float *floats() { return reinterpret_cast<float *>(data()); }

private:
  static constexpr uint8_t kGuardByte = 0xa5;

  std::vector<uint8_t> memory;
  size_t offset = 0, bytes = 0;
};

} // namespace lathe::difftest

#endif // LATHE_TESTS_COMPILER_DRIVER_GUARDEDMEMORY_H
