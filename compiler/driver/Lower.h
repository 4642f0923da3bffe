//===- Lower.h - from a model to printed kernels ----------------*- C++ -*-===//
//
// What the back ends share: graph IR, passes, plan and kernel texts. Private
// to compiler/driver.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DRIVER_LOWER_H
#define LATHE_COMPILER_DRIVER_LOWER_H

#include "compiler/driver/Compile.h"
#include "compiler/emit/EmittedKernel.h"

namespace lathe {

/// Fills everything of `result` but its code, for `target` ("cpu" or a CUDA
/// architecture), and returns the kernels in the order of the plan's.
StatusOr<std::vector<EmittedKernel>> planAndEmit(const ModelInput &input,
                                                 const CompileOptions &options,
                                                 const std::string &target,
                                                 CompiledModel &result);

} // namespace lathe

#endif // LATHE_COMPILER_DRIVER_LOWER_H
