//===- CudaEmitter.h - kernel.func to CUDA C++ ------------------*- C++ -*-===//
//
// Prints the glue around the device library (compiler/device/cuda): constants,
// prologue and epilogue as lambdas, and one or more entry points with the
// interface of runtime/base/CudaAbi.h. The body, the schedule and the `cuda`
// attribute of the kernel.func say everything, but how much of its memory a
// block of attention's uses to read ahead.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_EMIT_CUDAEMITTER_H
#define LATHE_COMPILER_EMIT_CUDAEMITTER_H

#include "compiler/emit/EmittedKernel.h"

#include "ir/kernel/Kernel.h"

namespace lathe {

/// Emits one kernel.func that has a schedule and a `cuda` attribute. Shapes
/// that the device library cannot do are reported as errors on the operation.
/// `sharedPerBlock`: bytes that the target has (CudaTarget).
mlir::FailureOr<EmittedKernel> emitCudaKernel(kernel::FuncOp func,
                                              int sharedPerBlock);

} // namespace lathe

#endif // LATHE_COMPILER_EMIT_CUDAEMITTER_H
