//===- CompileCuda.h - from a model to a plan and its cubins ----*- C++ -*-===//
//
// The CUDA twin of Compile.h. Needs NVRTC, but no GPU and no driver.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DRIVER_COMPILECUDA_H
#define LATHE_COMPILER_DRIVER_COMPILECUDA_H

#include "compiler/driver/Compile.h"
#include "compiler/nvrtc/CudaCompiler.h"
#include "runtime/base/CudaTarget.h"

namespace lathe {

/// Compiles for `target`. The plan's stages say what every entry needs.
/// Errors: as compileModel(); usageError for targets before sm_90;
/// internalError when an entry does not fit the target.
StatusOr<std::unique_ptr<CompiledModel>>
compileCuda(const ModelInput &input, const CompileOptions &options,
            const CudaTarget &target, std::shared_ptr<const Nvrtc> nvrtc);

} // namespace lathe

#endif // LATHE_COMPILER_DRIVER_COMPILECUDA_H
