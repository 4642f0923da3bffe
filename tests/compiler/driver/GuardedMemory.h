//===- GuardedMemory.h - bytes with guards behind ---------------*- C++ -*-===//

#ifndef LATHE_TESTS_COMPILER_DRIVER_GUARDEDMEMORY_H
#define LATHE_TESTS_COMPILER_DRIVER_GUARDEDMEMORY_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sys/mman.h>
#include <vector>

namespace lathe::difftest {

/// Four of them make a NaN.
inline constexpr int kPoison = 0xff;

/// A buffer that tells whether somebody wrote a little behind it. Whoever reads
/// or writes further, 64 to 320 bytes behind it, ends the process. Aligned to
/// 256 bytes.
class GuardedMemory {
public:
  GuardedMemory() = default;
  GuardedMemory(const GuardedMemory &other) { *this = other; }
  GuardedMemory &operator=(const GuardedMemory &other) {
    if (this == &other)
      return *this;
    start.reset();
    if (other.start)
      reserve(other.bytes, 0);
    bytes = other.bytes;
    if (other.start)
      std::memcpy(data(), other.data(), all());
    return *this;
  }
  GuardedMemory(GuardedMemory &&) = default;
  GuardedMemory &operator=(GuardedMemory &&) = default;

  void reserve(size_t count, int fill) {
    bytes = count;
    const size_t used = roundUp(all(), kAlignment);
    const size_t readable = roundUp(used, kPage), mapped = readable + kPage;
    void *area = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
      std::abort();
    auto *base = static_cast<uint8_t *>(area);
    mprotect(base + readable, kPage, PROT_NONE);
    start = {base + (readable - used), Unmap{base, mapped}};
    std::memset(data(), fill, used);
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
  uint8_t *data() { return start.get(); }
  const uint8_t *data() const { return start.get(); }
  float *floats() { return reinterpret_cast<float *>(data()); }

private:
  static constexpr size_t kAlignment = 256, kGuard = 64, kPage = 4096;
  static constexpr uint8_t kGuardByte = 0xa5;

  static size_t roundUp(size_t value, size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
  }

  struct Unmap {
    void *area;
    size_t mapped;
    void operator()(uint8_t *) const { munmap(area, mapped); }
  };
  std::unique_ptr<uint8_t, Unmap> start;
  size_t bytes = 0;
};

} // namespace lathe::difftest

#endif // LATHE_TESTS_COMPILER_DRIVER_GUARDEDMEMORY_H
