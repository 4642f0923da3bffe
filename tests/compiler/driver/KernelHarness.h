//===- KernelHarness.h - compiled kernels beside the reference --*- C++ -*-===//
//
// Lowers a small model to kernels, compiles them, and runs each one on random
// operands next to the reference interpreter. What a kernel must write is
// filled with NaN before, scratch too, and bytes behind every buffer are
// checked afterwards.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_COMPILER_DRIVER_KERNELHARNESS_H
#define LATHE_TESTS_COMPILER_DRIVER_KERNELHARNESS_H

#include "compiler/driver/Compile.h"
#include "compiler/emit/CpuEmitter.h"
#include "compiler/jit/KernelCompiler.h"
#include "ir/reference/Interpreter.h"
#include "tests/compiler/driver/KernelOperands.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"

#include <map>
#include <ostream>
#include <random>

namespace lathe::difftest {

/// A model of one DeltaNet layer and one attention layer.
struct Shape {
  std::string name{};
  int64_t hidden = 64, intermediate = 96, vocab = 100;
  int64_t heads = 2, kvHeads = 1, headDim = 32;
  int64_t keyHeads = 2, valueHeads = 2, keyDim = 16, valueDim = 16;
  WeightFormat format = WeightFormat::BF16;
  int32_t group = 0; ///< where it does not divide a row: F16 instead
  bool asymmetric = false;
  std::vector<int64_t> decodeTokens = {1};
  std::string prefillForm = "int15";
  bool avx2 = false;

  std::string config() const; ///< as config.json
  StatusOr<WeightDesc> describe(int64_t rows, int64_t cols) const;
};

inline std::ostream &operator<<(std::ostream &stream, const Shape &shape) {
  return stream << shape.name;
}

/// How far a kernel is from the reference, over all its results: the largest
/// difference in units of max(1, root mean square of the expected result,
/// magnitude of the expected element).
struct Comparison {
  double worst = 0;
  std::string problem; ///< overwritten guard, or a reference error
};

class KernelHarness {
public:
  explicit KernelHarness(const Shape &shape);

  /// The kernels of the model with their schedules.
  std::vector<kernel::FuncOp> kernels();
  /// Runs `func` at a random position over `tokens` tokens with two threads.
  Comparison compare(kernel::FuncOp func, int64_t tokens);

private:
  void lower();
  void compile();
  void launch(kernel::FuncOp func, const OperandMaker &maker,
              std::vector<void *> &args, Comparison &result);

  Shape shape;
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::unique_ptr<KernelCompiler> compiler;
  KernelCompiler::Kernels functions;
  std::map<std::string, EmittedKernel> emitted;
  std::mt19937 generator{7};
};

/// The status of planning a model of this shape, and of packing its weights.
Status planStatus(const Shape &shape);

} // namespace lathe::difftest

#endif // LATHE_TESTS_COMPILER_DRIVER_KERNELHARNESS_H
