#include "compiler/driver/CheckpointModel.h"

namespace lathe {

static std::string shapeText(int64_t rows, int64_t cols) {
  return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

ModelInput inputOf(const Checkpoint &checkpoint, const JsonValue &config) {
  ModelInput input{config, checkpoint.hasModule("mtp.fc"), nullptr, nullptr};
  input.readable = [&checkpoint](std::string_view module) {
    return checkpoint.describe(std::string(module)).status();
  };
  input.describe = [&checkpoint](std::string_view module, int64_t rows,
                                 int64_t cols) -> StatusOr<WeightDesc> {
    LATHE_ASSIGN_OR_RETURN(WeightDesc desc,
                           checkpoint.describe(std::string(module)));
    if (desc.rows != rows || desc.cols != cols)
      return modelError(checkpoint.directory() + ": " + std::string(module) +
                        ": expected shape " + shapeText(rows, cols) +
                        " from config.json, found " +
                        shapeText(desc.rows, desc.cols));
    return desc;
  };
  return input;
}

} // namespace lathe
