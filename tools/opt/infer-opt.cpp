//===- infer-opt.cpp - runs any pass on a file ----------------------------===//

#include "passes/Passes.h"

#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  registry.insert<lathe::graph::GraphDialect, lathe::kernel::KernelDialect,
                  lathe::plan::PlanDialect, mlir::func::FuncDialect>();
  lathe::registerLathePasses();
  return mlir::asMainReturnCode(
      mlir::MlirOptMain(argc, argv, "Lathe pass driver\n", registry));
}
