#include "runtime/engine/CheckpointWeights.h"

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

std::unique_ptr<WeightSource> weightsOf(const Checkpoint &checkpoint) {
  return std::make_unique<CheckpointWeights>(checkpoint);
}

} // namespace lathe
