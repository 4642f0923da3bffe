//===- CompileModel.h - the compiler as the verbs use it --------*- C++ -*-===//
//
// CompileModel.cpp in a build with the compiler; in a runtime-only build
// NoCompiler.cpp, where every function says what is missing.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TOOLS_INFER_COMPILEMODEL_H
#define LATHE_TOOLS_INFER_COMPILEMODEL_H

#include "tools/infer/ModelFiles.h"

#include "runtime/engine/CompiledModel.h"

namespace lathe::cli {

/// Code for `target`: "cpu" or a CUDA architecture, on `sms` multiprocessors
/// (0: those of a common card).
StatusOr<std::unique_ptr<CompiledModel>> compileFor(const ModelOptions &options,
                                                    const ModelFiles &files,
                                                    const std::string &target,
                                                    int sms);

/// The plan only.
StatusOr<std::unique_ptr<CompiledModel>> planFor(const ModelOptions &options,
                                                 const ModelFiles &files,
                                                 const std::string &target,
                                                 int sms);

/// OK when code for a GPU can be made on this machine.
Status canCompileCuda();

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_COMPILEMODEL_H
