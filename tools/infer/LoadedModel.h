//===- LoadedModel.h - a model opened, compiled and in memory ---*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_LOADEDMODEL_H
#define LATHE_TOOLS_INFER_LOADEDMODEL_H

#include "tools/infer/ModelFiles.h"

#include "runtime/engine/CompiledModel.h"
#include "runtime/engine/CpuEngine.h"
#include "runtime/engine/CudaEngine.h"
#include "runtime/engine/MemoryPlan.h"
#include "runtime/engine/Speculator.h"

namespace lathe::cli {

/// Members are destroyed in reverse order: the engine before what it uses.
struct LoadedModel {
  std::unique_ptr<ModelFiles> files;
  std::unique_ptr<cuda::Context> cuda; ///< null on the CPU
  std::unique_ptr<CompiledModel> compiled;
  std::unique_ptr<Engine> engine;
  CpuEngine *cpuEngine = nullptr; ///< one of the two is `engine`
  CudaEngine *cudaEngine = nullptr;
  int threads = 1;
  double loadMs = 0;
  std::string device; ///< "cpu", or the GPU's name
  SpecOptions spec;   ///< what the options ask for and the model allows
};

/// Opens, compiles, checks that it fits, and loads; with --spec auto without
/// speculation where there is no room for it.
StatusOr<LoadedModel> loadModel(const ModelOptions &options);

/// Opens and plans only; `memory` is for the context that the options name,
/// `available` what the device has. With a `target` for an architecture that
/// need not be there, and as if it had room.
StatusOr<LoadedModel> planOnly(const ModelOptions &options,
                               const std::string &target, MemoryPlan &memory,
                               int64_t &available);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_LOADEDMODEL_H
