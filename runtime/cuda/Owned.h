//===- Owned.h - a driver's handle with an owner ----------------*- C++ -*-===//

#ifndef LATHE_RUNTIME_CUDA_OWNED_H
#define LATHE_RUNTIME_CUDA_OWNED_H

#include "runtime/cuda/Context.h"

#include <utility>

namespace lathe::cuda {

/// A handle that goes back to its context with its owner; movable. The type of
/// the handle picks the way: see Context::release(). A zero handle is nothing.
template <class Handle> class Owned {
public:
  Owned() = default;
  Owned(Context &context, Handle handle) : context(&context), handle(handle) {}
  ~Owned() { reset(); }
  Owned(Owned &&other) noexcept
      : context(std::exchange(other.context, nullptr)),
        handle(std::exchange(other.handle, Handle())) {}
  Owned &operator=(Owned &&other) noexcept {
    if (this != &other) {
      reset();
      context = std::exchange(other.context, nullptr);
      handle = std::exchange(other.handle, Handle());
    }
    return *this;
  }

  void reset() {
    if (handle)
      context->release(std::exchange(handle, Handle()));
  }
  Handle get() const { return handle; }
  /// REQUIRES: made with a context and not moved from.
  Context &owner() const { return *context; }

private:
  Context *context = nullptr;
  Handle handle = Handle();
};

} // namespace lathe::cuda

#endif // LATHE_RUNTIME_CUDA_OWNED_H
