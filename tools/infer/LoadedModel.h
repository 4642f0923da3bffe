//===- LoadedModel.h - a model opened, compiled and in memory ---*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_LOADEDMODEL_H
#define LATHE_TOOLS_INFER_LOADEDMODEL_H

#include "tools/infer/Verbs.h"

#include "compiler/cache/ObjectCache.h"
#include "compiler/driver/Compile.h"
#include "runtime/engine/Engine.h"
#include "runtime/engine/MemoryPlan.h"
#include "runtime/io/Checkpoint.h"
#include "runtime/io/GenerationConfig.h"
#include "runtime/io/tokenizer/Tokenizer.h"

namespace lathe::cli {

/// A checkpoint, or a config with synthetic weights.
class ModelFiles {
public:
  static StatusOr<std::unique_ptr<ModelFiles>>
  open(const ModelOptions &options);

  ModelInput input() const;
  std::unique_ptr<WeightSource> weights() const;
  StatusOr<GenerationConfig> generation() const;
  /// Nothing when the directory has no tokenizer.json.
  StatusOr<std::optional<Tokenizer>> tokenizer() const;

private:
  ModelFiles() = default;
  StatusOr<WeightDesc> describeSynthetic(std::string_view module, int64_t rows,
                                         int64_t cols) const;

  std::optional<JsonDocument> config;
  std::optional<Checkpoint> checkpoint;
  WeightFormat format = WeightFormat::Int4;
  WeightFormat headFormat = WeightFormat::Int4;
};

/// Members are destroyed in reverse order: the engine before what it uses.
struct LoadedModel {
  std::unique_ptr<ModelFiles> files;
  std::unique_ptr<ObjectCache> cache;
  std::unique_ptr<CompiledModel> compiled;
  std::unique_ptr<Engine> engine;
  int threads = 1;
  double loadMs = 0;
};

/// Opens, compiles, checks that it fits, and loads.
StatusOr<LoadedModel> loadModel(const ModelOptions &options);

/// Opens and plans only; `memory` is for the context that the options name.
StatusOr<LoadedModel> planOnly(const ModelOptions &options, MemoryPlan &memory);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_LOADEDMODEL_H
