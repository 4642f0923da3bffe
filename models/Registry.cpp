#include "models/Registry.h"

#include "models/qwen3_5/Qwen35.h"

namespace lathe::models {

static StatusOr<Model> buildQwen35Model(mlir::MLIRContext *context,
                                        const ModelSource &source) {
  LATHE_ASSIGN_OR_RETURN(Qwen35Config config, parseQwen35(source.config));
  config.halfKv = source.halfKv;
  Model model;
  model.vocab = config.vocab;
  model.hidden = config.hidden;
  model.maxPositions = config.maxPositions;
  model.hasMtp = config.mtpLayers > 0 && source.hasMtpWeights;
  LATHE_ASSIGN_OR_RETURN(
      model.module, buildQwen35(context, config, model.hasMtp, source.weights));
  return model;
}

namespace {
struct Family {
  const char *modelType;
  StatusOr<Model> (*build)(mlir::MLIRContext *, const ModelSource &);
};
} // namespace

static constexpr Family kFamilies[] = {
    {"qwen3_5", buildQwen35Model},
    {"qwen3_5_text", buildQwen35Model},
};

StatusOr<Model> buildModel(mlir::MLIRContext *context,
                           const ModelSource &source) {
  LATHE_ASSIGN_OR_RETURN(std::string type,
                         source.config.getString("model_type"));
  for (const Family &family : kFamilies) {
    if (type != family.modelType)
      continue;
    LATHE_ASSIGN_OR_RETURN(Model model, family.build(context, source));
    model.modelType = type;
    return model;
  }
  std::string supported;
  for (const std::string &name : supportedModelTypes())
    supported += (supported.empty() ? "" : ", ") + name;
  return source.config.error("model_type: \"" + type +
                             "\" is not supported; expected one of " +
                             supported);
}

std::vector<std::string> supportedModelTypes() {
  std::vector<std::string> names;
  for (const Family &family : kFamilies)
    names.emplace_back(family.modelType);
  return names;
}

} // namespace lathe::models
