//===- Plan.h - the plan dialect: what the runtime executes -----*- C++ -*-===//
//
// See PlanOps.td. compiler/driver translates it to runtime/artifact/Plan.h.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_IR_PLAN_PLAN_H
#define LATHE_IR_PLAN_PLAN_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"

#include "ir/plan/PlanDialect.h.inc"
#include "ir/plan/PlanEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "ir/plan/PlanAttrs.h.inc"

#define GET_OP_CLASSES
#include "ir/plan/PlanOps.h.inc"

#endif // LATHE_IR_PLAN_PLAN_H
