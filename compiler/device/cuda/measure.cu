//===- measure.cu - entries that measuring needs ---------------*- CUDA -*-===//

#include "compiler/device/cuda/prelude.cuh"

namespace lathe {

/// A launch of any shape that has nothing to do.
LATHE_KERNEL(1024, 1) nothing() {
  waitForPrevious();
  launchNext();
}

/// Keeps multiprocessors from others: launched with all the shared memory that
/// a block can have. `flags` is host memory: a word per block that ends it,
/// then a word per block that says where it runs, plus one; all bits set when
/// it gave up after `most` nanoseconds.
LATHE_KERNEL(32, 1) hold(u32 *flags, u64 most) {
  if (threadX() != 0)
    return;
  const u64 start = nanoseconds();
  u32 *const place = flags + gridX() + blockX();
  storeHost(place, 1 + multiprocessor());
  while (loadHost(flags + blockX()) == 0) {
    if (nanoseconds() - start > most) {
      storeHost(place, ~0u);
      return;
    }
    nap();
  }
}

} // namespace lathe
