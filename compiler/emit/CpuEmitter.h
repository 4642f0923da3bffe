//===- CpuEmitter.h - kernel.func to C++ text for the CPU -------*- C++ -*-===//
//
// Prints the glue around the device library (compiler/device/cpu): the
// constants of the kernel, its prologue and epilogue as lambdas, and the entry
// point with the interface of runtime/base/KernelAbi.h. Decides nothing: the
// body and the schedule of the kernel.func say everything.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_EMIT_CPUEMITTER_H
#define LATHE_COMPILER_EMIT_CPUEMITTER_H

#include "compiler/emit/EmittedKernel.h"

#include "ir/kernel/Kernel.h"

namespace lathe {

/// Emits one kernel.func that has a schedule. Shapes that the device library
/// cannot do are reported as errors on the operation.
mlir::FailureOr<EmittedKernel> emitCpuKernel(kernel::FuncOp func);

} // namespace lathe

#endif // LATHE_COMPILER_EMIT_CPUEMITTER_H
