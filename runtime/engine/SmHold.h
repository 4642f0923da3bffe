//===- SmHold.h - keeps some of a GPU from what runs on it ------*- C++ -*-===//
//
// For measuring on fewer multiprocessors than a GPU has, exactly as many as
// wanted: a kernel occupies the others, one block each with all the shared
// memory there is, sleeping. Nothing with a block of its own fits beside it.
//
// Load every kernel, and run it once, before: loading may wait for the whole
// GPU, and so for the hold, which gives up after kMostSeconds. And let no
// kernel ask for another division between L1 and shared memory than the hold
// has (CudaEngineOptions::wholeShared): a multiprocessor is not given another
// one while its neighbours are busy, and would stand idle.
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
  static constexpr int kMostSeconds = 60;

  /// Leaves `free` multiprocessors to others, at least 1, spread over the GPU
  /// in pairs. `hold` is of compiler/device/cuda/measure.cu and may be launched
  /// with all shared memory; nothing else runs meanwhile. Errors: usageError
  /// when the GPU has fewer; internalError when not all can be had.
  static StatusOr<std::unique_ptr<SmHold>>
  create(cuda::Context &context, const cuda::Function &hold, int free);

  /// Lets go, and waits until it has.
  ~SmHold();
  SmHold(const SmHold &) = delete;
  SmHold &operator=(const SmHold &) = delete;

  /// OK while the hold lasts and all that is free can be used at once, tried
  /// out; else an internalError, and what was measured counts for nothing.
  /// Nothing else may run meanwhile.
  Status check() const;

  /// `count` of the multiprocessors 0 to `sms` - 1.
  static std::vector<int> spread(int sms, int count);

private:
  SmHold(cuda::Context &context, const cuda::Function &hold, int blocks)
      : context(context), hold(hold), blocks(blocks) {}
  /// Holds `blocks` multiprocessors.
  static StatusOr<std::unique_ptr<SmHold>>
  occupy(cuda::Context &context, const cuda::Function &hold, int blocks);
  bool started() const;
  /// Where blocks run or have run, ascending.
  std::vector<int> places() const;
  std::atomic_ref<uint32_t> flag(int index) const;

  cuda::Context &context;
  const cuda::Function &hold;
  const int blocks;
  int free = 0;
  cuda::PinnedBuffer flags; ///< see measure.cu
  cuda::Stream stream;
  bool launched = false;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_SMHOLD_H
