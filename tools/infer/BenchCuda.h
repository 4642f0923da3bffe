//===- BenchCuda.h - infer bench on a GPU -----------------------*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_BENCHCUDA_H
#define LATHE_TOOLS_INFER_BENCHCUDA_H

#include "tools/infer/LoadedModel.h"

namespace lathe::cli {

/// Measures and prints. REQUIRES: model.cudaEngine.
Status benchCuda(const BenchOptions &options, LoadedModel &model);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_BENCHCUDA_H
