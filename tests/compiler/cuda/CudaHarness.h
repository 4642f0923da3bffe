//===- CudaHarness.h - CUDA kernels beside the reference --------*- C++ -*-===//
//
// Lowers a small model to CUDA kernels, compiles them with a backend, and runs
// each one on random operands next to the reference interpreter. What a kernel
// must write is filled with NaN before, scratch too; bytes behind every buffer
// are checked afterwards, and that counters are zero again.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_COMPILER_CUDA_CUDAHARNESS_H
#define LATHE_TESTS_COMPILER_CUDA_CUDAHARNESS_H

#include "compiler/emit/EmittedKernel.h"
#include "tests/compiler/cuda/CudaOperands.h"
#include "tests/compiler/driver/ModelShape.h"

#include <map>
#include <random>

namespace lathe::difftest {

bool sameBytes(const GuardedMemory &a, const GuardedMemory &b);

class CudaHarness {
public:
  /// The kernels are those of `shape` for backend.architecture(shape.target).
  CudaHarness(Shape shape, CudaBackend &backend);

  /// The kernels of the model, with their schedules.
  const std::vector<kernel::FuncOp> &kernels() const { return funcs; }
  /// Those of the decode steps of `tokens`, in the order of the model: the same
  /// index is the same work for every token count.
  std::vector<kernel::FuncOp> decodeKernels(int64_t tokens) const;

  /// Runs `func` at a random position over `tokens` tokens.
  Comparison compare(kernel::FuncOp func, int64_t tokens);

  /// Runs `many` on random operands, and `one`, the same work for one token,
  /// once for each of them: the name of what differs in a bit, or "".
  std::string compareSteps(kernel::FuncOp one, kernel::FuncOp many);

  /// Runs a decode kernel with the grid it asks for and with others: the number
  /// of blocks with which a bit differs, or "".
  std::string compareGrids(kernel::FuncOp func);

  /// Runs the decode kernels of `tokens` that can be part of a persistent step,
  /// each on what the ones before it made, as launches and as the step of
  /// `blocks` blocks: what differs in a bit, or "".
  std::string compareEntries(int64_t tokens, int blocks);

private:
  struct Chain;
  /// Far enough for attention to split its positions in many ways.
  static constexpr int64_t kFarthest = 700;

  /// `blocks` replaces the grid that the kernel asks for.
  static std::vector<CudaCall> callsOf(const EmittedKernel &kernel,
                                       int64_t tokens, int blocks);
  void compile();
  const EmittedKernel &emittedOf(kernel::FuncOp func) const {
    return emitted.at(func.getSymName().str());
  }
  LaunchOperands operandsFor(kernel::FuncOp func, RandomValues &random);
  Chain chainFor(int64_t tokens, RandomValues &random);
  /// Emits and loads the step of these kernels, whose numbers count from 0.
  EmittedKernel loadStep(const std::vector<kernel::FuncOp> &chain, int blocks);
  std::string runLaunches(Chain &chain, CudaArguments &arguments);
  std::string runStep(Chain &chain, CudaArguments &arguments, int blocks);
  /// `blocks` replaces the grid that the kernel asks for. Returns what went
  /// wrong, or "".
  std::string launch(kernel::FuncOp func, LaunchOperands &operands,
                     int64_t tokens, int64_t position, int64_t capacity,
                     int blocks = 0);

  Shape shape;
  CudaBackend &backend;
  CudaWeightPacker packer;
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::vector<kernel::FuncOp> funcs;
  std::map<std::string, EmittedKernel> emitted;
  std::mt19937 generator{7};
};

} // namespace lathe::difftest

#endif // LATHE_TESTS_COMPILER_CUDA_CUDAHARNESS_H
