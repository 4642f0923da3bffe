//===- infer-opt.cpp - runs any pass on a file ----------------------------===//

#include "ir/graph/Graph.h"
#include "ir/kernel/Kernel.h"
#include "ir/plan/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  registry.insert<lathe::graph::GraphDialect, lathe::kernel::KernelDialect,
                  lathe::plan::PlanDialect, mlir::func::FuncDialect>();
  return mlir::asMainReturnCode(
      mlir::MlirOptMain(argc, argv, "Lathe pass driver\n", registry));
}
