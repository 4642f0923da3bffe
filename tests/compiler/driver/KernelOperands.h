//===- KernelOperands.h - operands of CPU kernels ---------------*- C++ -*-===//
//
// An operand exists twice: as a value of the reference interpreter and as the
// bytes that a kernel reads, in the layout that the plan names.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_COMPILER_DRIVER_KERNELOPERANDS_H
#define LATHE_TESTS_COMPILER_DRIVER_KERNELOPERANDS_H

#include "ir/kernel/Kernel.h"
#include "ir/plan/Plan.h"
#include "tests/compiler/driver/GuardedMemory.h"
#include "tests/compiler/driver/RandomValues.h"

#include "llvm/ADT/STLFunctionalExtras.h"

#include <string>
#include <vector>

namespace lathe::difftest {

/// Floats from row to row of an activation.
int64_t strideOf(int64_t width);

/// The two sides of one operand or result.
struct Operand : GuardedMemory {
  mlir::Type type;
  reference::Value value;
};

/// Bytes for operand.value, which is a tensor or token ids; an activation's
/// rows are padded with bytes of `fill`.
void placeTensor(Operand &operand, plan::Layout layout, int fill);

/// Bytes for operand.value of any type, as CPU kernels read them.
void placeOnCpu(Operand &operand, plan::Layout layout, int64_t capacity);

/// The operands of one launch, and room for its results, full of NaNs. A state
/// is updated in place, where it is an operand.
struct LaunchOperands {
  std::vector<Operand> operands, results;

  /// In the order of a kernel's interface.
  std::vector<GuardedMemory *> interface();
  /// Where the kernel leaves result `i`. It has one state of each type at most.
  Operand &found(size_t i);
  /// Which guard was overwritten, or "".
  std::string problem();
};

using Place = llvm::function_ref<void(Operand &, plan::Layout)>;

/// Random operands for `func`, their bytes made by `place`.
LaunchOperands makeOperands(kernel::FuncOp func, RandomValues &random,
                            Place place);

/// What the body of `func` computes from these operands.
std::vector<reference::Value> runReference(kernel::FuncOp func,
                                           const LaunchOperands &launch);

/// A cache that holds `kv` and NaNs: keys [heads][capacity][dim], then values.
std::vector<float> cacheOf(const reference::KvState &kv, graph::KvType type,
                           int64_t capacity);

/// The activation that lies in `found`, without padding.
std::vector<float> rowsIn(Operand &found, int64_t rows, int64_t cols);

/// How far a kernel is from the reference, over all its results: the largest
/// difference in units of max(1, root mean square of the expected result,
/// magnitude of the expected element).
struct Comparison {
  double worst = 0;
  std::string problem; ///< an overwritten guard, or a launch that failed
};

/// The largest difference in units of max(1, root mean square of `wanted`,
/// magnitude of the element); NaN where a NaN is wanted is no difference.
double distance(const std::vector<float> &wanted,
                const std::vector<float> &found);

/// The same for what a CPU kernel left in `found`. Positions of a KV cache that
/// the reference does not have must still be NaN.
double distance(const reference::Value &wanted, Operand &found,
                int64_t capacity);

} // namespace lathe::difftest

#endif // LATHE_TESTS_COMPILER_DRIVER_KERNELOPERANDS_H
