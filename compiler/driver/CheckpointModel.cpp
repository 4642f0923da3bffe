#include "compiler/driver/CheckpointModel.h"

namespace lathe {

namespace {

class CheckpointWeights : public WeightSource {
public:
  explicit CheckpointWeights(const Checkpoint &checkpoint)
      : checkpoint(checkpoint) {}
  StatusOr<HostWeight> weight(const std::string &name,
                              const WeightDesc &expected) override {
    return checkpoint.readWeight(name, expected.rows, expected.cols);
  }
  StatusOr<std::vector<float>> tensor(const std::string &name,
                                      std::span<const int64_t> shape) override {
    // The graph writes the taps of a depthwise convolution [C, 1, T] as [C, T].
    if (shape.size() == 2)
      return checkpoint.readTensor(name,
                                   std::vector<int64_t>{shape[0], 1, shape[1]});
    return checkpoint.readTensor(name, shape);
  }

private:
  const Checkpoint &checkpoint;
};

} // namespace

static std::string shapeText(int64_t rows, int64_t cols) {
  return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

ModelInput inputOf(const Checkpoint &checkpoint, const JsonValue &config) {
  ModelInput input{config, checkpoint.hasModule("mtp.fc"), nullptr};
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

std::unique_ptr<WeightSource> weightsOf(const Checkpoint &checkpoint) {
  return std::make_unique<CheckpointWeights>(checkpoint);
}

} // namespace lathe
