//===- Registry.h - model families by model_type ----------------*- C++ -*-===//

#ifndef LATHE_MODELS_REGISTRY_H
#define LATHE_MODELS_REGISTRY_H

#include "models/common/ModelBuilder.h"
#include "runtime/io/Json.h"

namespace lathe::models {

/// What a runtime needs to know of a model besides its plan.
struct Model {
  std::string modelType;
  int64_t vocab = 0;
  int64_t hidden = 0;
  int64_t maxPositions = 0;
  bool hasMtp = false;
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

struct ModelSource {
  const JsonValue &config; ///< root of config.json
  bool hasMtpWeights;      ///< the checkpoint has mtp.* tensors
  const WeightCatalog &weights;
  bool halfKv = false; ///< keep KV caches in f16, else f32
};

/// Builds the graph of the family that config.json names. An unknown
/// model_type is a modelError that lists the supported ones.
StatusOr<Model> buildModel(mlir::MLIRContext *context,
                           const ModelSource &source);

/// The supported values of model_type, for help texts.
std::vector<std::string> supportedModelTypes();

} // namespace lathe::models

#endif // LATHE_MODELS_REGISTRY_H
