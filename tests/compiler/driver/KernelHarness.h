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

#include "compiler/emit/CpuEmitter.h"
#include "compiler/jit/KernelCompiler.h"
#include "tests/compiler/driver/KernelOperands.h"
#include "tests/compiler/driver/ModelShape.h"
#include "tests/compiler/driver/RandomValues.h"

#include <map>
#include <random>

namespace lathe::difftest {

class KernelHarness {
public:
  explicit KernelHarness(const Shape &shape);

  std::vector<kernel::FuncOp> kernels() { return kernelsOf(*module); }
  /// Runs `func` at a random position over `tokens` tokens with two threads.
  Comparison compare(kernel::FuncOp func, int64_t tokens);

private:
  void compile();
  void launch(kernel::FuncOp func, const RandomValues &random,
              LaunchOperands &operands, Comparison &result);

  Shape shape;
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::unique_ptr<KernelCompiler> compiler;
  KernelCompiler::Kernels functions;
  std::map<std::string, EmittedKernel> emitted;
  std::mt19937 generator{7};
};

} // namespace lathe::difftest

#endif // LATHE_TESTS_COMPILER_DRIVER_KERNELHARNESS_H
