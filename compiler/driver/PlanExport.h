//===- PlanExport.h - plan dialect to runtime plan --------------*- C++ -*-===//

#ifndef LATHE_COMPILER_DRIVER_PLANEXPORT_H
#define LATHE_COMPILER_DRIVER_PLANEXPORT_H

#include "compiler/emit/EmittedKernel.h"
#include "runtime/artifact/Plan.h"

#include "mlir/IR/BuiltinOps.h"

namespace lathe {

/// The plan of a module after plan-memory; `kernels` are its emitted kernels,
/// in module order.
Plan exportPlan(mlir::ModuleOp module,
                const std::vector<EmittedKernel> &kernels,
                std::string_view target);

/// The record of one kernel, for a plan that gets more than the module has.
PlannedKernel exportKernel(const EmittedKernel &kernel);

} // namespace lathe

#endif // LATHE_COMPILER_DRIVER_PLANEXPORT_H
