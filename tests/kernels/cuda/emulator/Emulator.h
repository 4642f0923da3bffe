//===- Emulator.h - run CUDA kernels on a CPU -------------------*- C++ -*-===//
//
// Runs kernels of compiler/device/cuda without a GPU, to test what they compute
// and how their threads cooperate. In a test:
//
//   #include "tests/kernels/cuda/emulator/intrinsics.h" // first
//   #include "compiler/device/cuda/delta_step.cuh"
//   #include "tests/kernels/cuda/emulator/Emulator.h"
//
//   emulator::runGrid({.gridX = 3, .threads = 256, .sharedBytes = 4096},
//                     [&] { lathe::deltaStep<Config, 4>(launch, in, out); });
//
// The callable runs once for every thread of the grid. A thread is a fiber that
// runs until it has to wait, so the threads of a block interleave exactly where
// they cooperate; blocks run one after another or, where they may wait for each
// other (`together`), until they have to wait. What hardware leaves open is
// decided against the kernel:
//  - `order` says which lane, which warp and which block is next. A result that
//    depends on it lacks a barrier: run every kernel with all of kOrders.
//  - A block's shared memory is as large as asked for, is full of 0xff (NaN) at
//    first, and nothing may write around it.
//  - An asynchronous copy fills its destination with 0xff when it is issued and
//    delivers only when it must: one of copyAsync16 in a copyWait that names
//    its group, one of copyBulk or storeTwin when nothing else can run
//    (with kShuffled, a copyBulk sometimes at once).
// The launch fails, with a message that says what every thread was doing, if
// no thread can run; if lanes of one warp wait for different operations; if
// a warp's lane has returned that others wait for; and for the misuse of
// barriers and copies that hardware answers with undefined behaviour.
//
// Not checked: races between threads that no order brings to light, the bounds
// of ordinary loads and stores, and that lanes come to the same *place*: only
// the kind of operation is compared; and for warp(), which is a shuffle on the
// hardware, not even that they come. Not emulated: clusters of more than two
// blocks, launches that overlap. One CPU thread at a time runs grids, and a
// kernel may not run one.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_KERNELS_CUDA_EMULATOR_EMULATOR_H
#define LATHE_TESTS_KERNELS_CUDA_EMULATOR_EMULATOR_H

#include <functional>
#include <string>

namespace lathe {
struct EmulatorTable;
}

namespace lathe::emulator {

enum class Order { kAscending, kDescending, kShuffled };
inline constexpr Order kOrders[] = {Order::kAscending, Order::kDescending,
                                    Order::kShuffled};

struct Grid {
  int gridX = 1;
  int gridY = 1;
  int threads = 32;
  int sharedBytes = 0;
  Order order = Order::kAscending;
  unsigned seed = 1;     ///< of kShuffled
  bool together = false; ///< blocks may wait for each other (waitForCount)
  bool twins = false;    ///< two neighbouring blocks run together (LATHE_TWINS)
};

/// Runs `thread` for every thread of the grid; says what went wrong, or "".
/// The threads of a failed launch are abandoned where they are.
std::string tryGrid(const Grid &grid, const std::function<void()> &thread);

/// The same for a launch that must succeed; prints the message and aborts.
void runGrid(const Grid &grid, const std::function<void()> &thread);

/// For a kernel that was compiled with LATHE_EMULATOR_DEFINE: goes into the
/// object's variable `latheEmulator`.
EmulatorTable *table();

} // namespace lathe::emulator

/// Tests of kernels cannot say `using namespace lathe`, for lathe::exp is not
/// ::exp.
namespace emulator = lathe::emulator;

#endif // LATHE_TESTS_KERNELS_CUDA_EMULATOR_EMULATOR_H
