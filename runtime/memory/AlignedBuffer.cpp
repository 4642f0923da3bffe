#include "runtime/memory/AlignedBuffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <string>

namespace lathe {

AlignedBuffer::~AlignedBuffer() {
  if (bytes)
    munmap(bytes, size_t(length));
}

StatusOr<AlignedBuffer> AlignedBuffer::allocate(int64_t size) {
  AlignedBuffer buffer;
  buffer.length = std::max<int64_t>(size, 1);
  void *p = mmap(nullptr, size_t(buffer.length), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED)
    return capacityError("the system refused " + std::to_string(size) +
                         " bytes of memory");
  constexpr int64_t kHugePage = 2 << 20;
  if (size >= 2 * kHugePage)
    (void)madvise(p, size_t(buffer.length), MADV_HUGEPAGE);
  buffer.bytes = static_cast<uint8_t *>(p);
  return buffer;
}

} // namespace lathe
