//===- SmHold.h - keeps some of a GPU from what runs on it ------*- C++ -*-===//
//
// For measuring on fewer multiprocessors than a GPU has, exactly as many as
// wanted: a kernel occupies the others, one block each with all the shared
// memory there is, sleeping. Nothing with a block of its own fits beside it.
//
// Multiprocessors are freed in pairs, neighbours by number: on an H200, half of
// a pair took no blocks with other shared memory than its other half had.
//
// While a hold lives, nothing may wait for the whole GPU: loading a kernel (run
// each once before), freeing pinned memory. The hold ends by itself after
// kMostSeconds, and says so.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_SMHOLD_H
#define LATHE_RUNTIME_ENGINE_SMHOLD_H

#include "runtime/cuda/Buffer.h"
#include "runtime/cuda/Module.h"
#include "runtime/cuda/Stream.h"

#include <atomic>
#include <memory>
#include <vector>

namespace lathe {

class SmHold {
public:
  static constexpr int kMostSeconds = 10;

  /// Leaves `free` multiprocessors to others, at least 1, spread over the GPU.
  /// `hold` is of compiler/device/cuda/measure.cu and may be launched with all
  /// shared memory; it must outlive the result. Nothing else runs meanwhile.
  /// Errors: usageError when the GPU has fewer; internalError when not all can
  /// be had.
  static StatusOr<std::unique_ptr<SmHold>>
  create(cuda::Context &context, const cuda::Function &hold, int free);

  /// Lets go, and waits until it has.
  ~SmHold();
  SmHold(const SmHold &) = delete;
  SmHold &operator=(const SmHold &) = delete;

  /// OK while the hold lasts and all that is free can be used at once, which is
  /// tried out; else an internalError, and what was measured counts for
  /// nothing. Nothing else may run meanwhile.
  Status check();

  /// `count` of the multiprocessors 0 to `sms` - 1, whole pairs first.
  static std::vector<int> spread(int sms, int count);

private:
  /// A launch of the kernel.
  struct Grid {
    cuda::PinnedBuffer flags; ///< see measure.cu
    cuda::Stream stream;
    int blocks = 0;

    Status prepare(cuda::Context &context);
    /// Returns when every block runs, each on a multiprocessor of its own.
    Status launch(const cuda::Function &hold, int count, int dynamicShared);
    Status end();
    bool started() const;
    bool gaveUp() const;
    int placeOf(int block) const; ///< -1: it does not run yet
    /// Of all blocks, ascending, each once.
    std::vector<int> places() const;
    std::atomic_ref<uint32_t> flag(int index) const;
  };

  SmHold(const cuda::Function &hold, int dynamicShared, int free)
      : hold(hold), dynamicShared(dynamicShared), free(free) {}

  const cuda::Function &hold;
  const int dynamicShared, free;
  Grid all, others; ///< what holds, and what tries the rest
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_SMHOLD_H
