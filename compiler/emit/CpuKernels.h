//===- CpuKernels.h - one printer per kernel anchor -------------*- C++ -*-===//
//
// Private to compiler/emit.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_EMIT_CPUKERNELS_H
#define LATHE_COMPILER_EMIT_CPUKERNELS_H

#include "compiler/emit/CodeWriter.h"
#include "compiler/emit/CpuEmitter.h"
#include "compiler/emit/RowPrinter.h"
#include "runtime/base/KernelAbi.h"

namespace lathe {

/// The state of printing one kernel. A printer writes the body of the entry
/// function and records the scratch.
struct CpuKernel {
  kernel::FuncOp func;
  mlir::Block &body;
  kernel::ScheduleAttr schedule;
  KernelOperands operands;
  CodeWriter config; ///< namespace scope, before the entry
  CodeWriter code;   ///< the body of the entry
  EmittedKernel result;

  explicit CpuKernel(kernel::FuncOp func)
      : func(func), body(func.getBody().front()), schedule(*func.getSchedule()),
        operands(body) {}

  /// `args[i]` of a kernel argument.
  std::string arg(mlir::Value value) const {
    auto argument = mlir::cast<mlir::BlockArgument>(value);
    return "args[" + std::to_string(operands.of(argument)) + "]";
  }
  std::string floats(mlir::Value value) const {
    return "(float *)" + arg(value);
  }
};

/// The device library's name for the format of a weight.
std::string formatName(graph::WeightType type);

mlir::LogicalResult printLinear(CpuKernel &kernel);
mlir::LogicalResult printEmbedding(CpuKernel &kernel);
mlir::LogicalResult printElementwise(CpuKernel &kernel);
mlir::LogicalResult printDelta(CpuKernel &kernel);
mlir::LogicalResult printAttention(CpuKernel &kernel);

} // namespace lathe

#endif // LATHE_COMPILER_EMIT_CPUKERNELS_H
