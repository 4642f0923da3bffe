//===- KernelText.h - the state of printing one kernel ----------*- C++ -*-===//
//
// Private to compiler/emit.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_EMIT_KERNELTEXT_H
#define LATHE_COMPILER_EMIT_KERNELTEXT_H

#include "compiler/emit/CodeWriter.h"
#include "compiler/emit/EmittedKernel.h"
#include "compiler/emit/RowPrinter.h"

#include "ir/kernel/Kernel.h"

namespace lathe {

/// A printer writes the parts of the text and records the scratch.
struct KernelText {
  kernel::FuncOp func;
  mlir::Block &body;
  kernel::ScheduleAttr schedule;
  KernelOperands operands;
  CodeWriter config; ///< namespace scope, before the entry
  CodeWriter code;   ///< the body of the entry
  EmittedKernel result;

  explicit KernelText(kernel::FuncOp func)
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

} // namespace lathe

#endif // LATHE_COMPILER_EMIT_KERNELTEXT_H
