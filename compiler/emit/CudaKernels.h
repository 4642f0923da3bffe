//===- CudaKernels.h - one printer per kernel anchor ------------*- C++ -*-===//
//
// Private to compiler/emit.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_EMIT_CUDAKERNELS_H
#define LATHE_COMPILER_EMIT_CUDAKERNELS_H

#include "compiler/emit/CudaEmitter.h"
#include "compiler/emit/KernelText.h"

#include "runtime/base/CudaPacking.h"

namespace lathe {

struct CudaKernel : KernelText {
  kernel::CudaAttr cuda;
  int sharedPerBlock; ///< bytes that the target has

  CudaKernel(kernel::FuncOp func, int sharedPerBlock)
      : KernelText(func), cuda(*func.getCuda()),
        sharedPerBlock(sharedPerBlock) {}

  /// The namespace of what `config` declares.
  std::string scope() { return func.getSymName().str() + "_stage"; }
  /// "Operands<3>": the type of `args`.
  std::string operandsType();
  int64_t operandCount();
  /// Opens an entry and records it. Its name is the kernel's and `suffix`.
  void openEntry(llvm::StringRef suffix, EmittedStage stage);
  /// "waitForPrevious(); launchNext();": from here on activations may be
  /// touched, and the next launch may start its weights.
  void waitHere();
};

/// "CudaFormat::Int4, 128, false": the template arguments of a format.
std::string packingArguments(graph::WeightType type);

mlir::LogicalResult printCudaMatvec(CudaKernel &kernel);
mlir::LogicalResult printCudaMatmul(CudaKernel &kernel);
mlir::LogicalResult printCudaDelta(CudaKernel &kernel);
mlir::LogicalResult printCudaAttention(CudaKernel &kernel);

} // namespace lathe

#endif // LATHE_COMPILER_EMIT_CUDAKERNELS_H
