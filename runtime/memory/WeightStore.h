//===- WeightStore.h - the resident parameters of a plan --------*- C++ -*-===//
//
// Loads every parameter that a plan names, in the layout its kernels read. One
// tensor per thread is held in host form at a time, so the peak is the resident
// size plus the largest few tensors.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_MEMORY_WEIGHTSTORE_H
#define LATHE_RUNTIME_MEMORY_WEIGHTSTORE_H

#include "runtime/artifact/Plan.h"
#include "runtime/memory/AlignedBuffer.h"
#include "runtime/memory/WeightSource.h"

#include <functional>
#include <string_view>

namespace lathe {

/// Bytes that a parameter occupies once loaded, a multiple of 64 (CUDA: 256),
/// for a plan of this target.
int64_t residentBytes(const PlannedWeight &weight, std::string_view target);

/// Called after each parameter with the bytes loaded so far and in all.
using LoadProgress = std::function<void(int64_t done, int64_t total)>;

class WeightStore {
public:
  /// Loads with `threads` threads. `progress` may be null; calls to it are
  /// serialised. Errors: those of the source, capacityError.
  static StatusOr<WeightStore> load(const Plan &plan, WeightSource &source,
                                    int threads,
                                    const LoadProgress &progress = nullptr);

  /// The parameter with this index in Plan::weights.
  void *at(size_t index) const { return buffer.data() + offsets[index]; }
  int64_t size() const { return buffer.size(); }

private:
  AlignedBuffer buffer;
  std::vector<int64_t> offsets;
};

} // namespace lathe

#endif // LATHE_RUNTIME_MEMORY_WEIGHTSTORE_H
