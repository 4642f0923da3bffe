//===- Kernel.h - the kernel dialect: fused launches ------------*- C++ -*-===//
//
// After fusion a func.func is a list of kernel.launch operations, and every
// kernel.func they name is one launch. See KernelOps.td.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_IR_KERNEL_KERNEL_H
#define LATHE_IR_KERNEL_KERNEL_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "ir/kernel/KernelDialect.h.inc"
#include "ir/kernel/KernelEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "ir/kernel/KernelAttrs.h.inc"

#define GET_OP_CLASSES
#include "ir/kernel/KernelOps.h.inc"

#endif // LATHE_IR_KERNEL_KERNEL_H
