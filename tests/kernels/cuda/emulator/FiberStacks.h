//===- FiberStacks.h - stacks and the switch between them -------*- C++ -*-===//

#ifndef LATHE_TESTS_KERNELS_CUDA_EMULATOR_FIBERSTACKS_H
#define LATHE_TESTS_KERNELS_CUDA_EMULATOR_FIBERSTACKS_H

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <sanitizer/asan_interface.h>
#include <sys/mman.h>

#ifndef __x86_64__
#error "the emulator switches fibers on x86-64 only"
#endif

// Saves the callee-saved registers on the old stack and takes them from the
// new one; everything else is the caller's, who sees an ordinary call.
extern "C" void latheSwitchFiber(void **saveStack, void *stack);
asm(R"(
  .text
  .type latheSwitchFiber, @function
latheSwitchFiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size latheSwitchFiber, . - latheSwitchFiber
)");

namespace lathe::emulator {

/// As many stacks as a block can have threads, each above a page that nobody
/// may touch: a thread that needs more dies at once.
class FiberStacks {
public:
  explicit FiberStacks(int count) {
    void *area = mmap(nullptr, count * kBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) {
      perror("emulator: stacks");
      abort();
    }
    base = static_cast<char *>(area);
    for (int i = 0; i < count; ++i)
      mprotect(base + i * kBytes, kPage, PROT_NONE);
  }

  /// Stack i, so filled that switching to it calls `start`, which may not
  /// return.
  void *prepare(int i, void (*start)()) {
    // Stacks begin in different cache sets, or they would evict each other.
    size_t colour = i % 8 * size_t(448);
    // Its last thread never returned from the functions that it was in.
    ASAN_UNPOISON_MEMORY_REGION(base + i * kBytes + kPage, kBytes - kPage);
    void **top = reinterpret_cast<void **>(base + (i + 1) * kBytes - colour);
    *--top = nullptr; // the return address that `start` does not need
    *--top = reinterpret_cast<void *>(start);
    for (int saved = 0; saved < 6; ++saved)
      *--top = nullptr;
    return top;
  }

private:
  static constexpr size_t kPage = 4096;
  static constexpr size_t kBytes = 65 * kPage; // untouched ones cost nothing
  char *base;
};

} // namespace lathe::emulator

#endif // LATHE_TESTS_KERNELS_CUDA_EMULATOR_FIBERSTACKS_H
