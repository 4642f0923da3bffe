//===- SmHold.h - keeps some of a GPU from what runs on it ------*- C++ -*-===//
//
// For measuring on fewer multiprocessors than a GPU has, exactly as many as
// wanted: a kernel occupies the others, one block each with all the shared
// memory there is, sleeping. Nothing with a block of its own fits beside it.
//
// Load every kernel, and run it once, before: loading may wait for the whole
// GPU, and so for the hold, which gives up after kMostSeconds.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_SMHOLD_H
#define LATHE_RUNTIME_ENGINE_SMHOLD_H

#include "runtime/cuda/Buffer.h"
#include "runtime/cuda/Module.h"
#include "runtime/cuda/Stream.h"

#include <memory>

namespace lathe {

class SmHold {
public:
  static constexpr int kMostSeconds = 60;

  /// Leaves `free` multiprocessors to others, at least 1, and returns when the
  /// rest is occupied. `hold` is of compiler/device/cuda/measure.cu and may be
  /// launched with all shared memory; the GPU must be idle. Errors: usageError
  /// when the GPU has fewer; internalError when the kernel does not start on a
  /// multiprocessor for each of its blocks.
  static StatusOr<std::unique_ptr<SmHold>>
  create(cuda::Context &context, const cuda::Function &hold, int free);

  /// Lets go, and waits until it has.
  ~SmHold();
  SmHold(const SmHold &) = delete;
  SmHold &operator=(const SmHold &) = delete;

  /// How many are occupied.
  int held() const { return blocks; }
  /// OK while it lasts; internalError when it has given up, so that what was
  /// measured counts for nothing.
  Status check() const;

private:
  SmHold(int blocks) : blocks(blocks) {}
  bool started() const;
  Status checkPlaces() const;
  uint32_t flag(int index) const;

  const int blocks;
  cuda::PinnedBuffer flags; ///< see measure.cu
  cuda::Stream stream;
  bool launched = false;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_SMHOLD_H
