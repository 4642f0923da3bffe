#include "runtime/engine/CheckpointWeights.h"

#include <algorithm>

namespace lathe {

static bool isZero(const HostWeight &weight) {
  std::vector<float> row(static_cast<size_t>(weight.desc.cols));
  for (int64_t i = 0; i < weight.desc.rows; ++i) {
    weight.dequantizeRow(i, row.data());
    if (std::ranges::any_of(row, [](float value) { return value != 0; }))
      return false;
  }
  return true;
}

namespace {

class CheckpointWeights : public WeightSource {
public:
  explicit CheckpointWeights(const Checkpoint &checkpoint)
      : checkpoint(checkpoint) {}
  StatusOr<HostWeight> weight(const std::string &name,
                              const WeightDesc &expected) override {
    LATHE_ASSIGN_OR_RETURN(
        HostWeight weight,
        checkpoint.readWeight(name, expected.rows, expected.cols));
    // Nobody notices such drafts: they only ever miss.
    if (name.starts_with("mtp.") && isZero(weight))
      return modelError(checkpoint.directory() + ": " + name +
                        ": expected the weights of an MTP layer, found zeros "
                        "only; load it with --spec none or ngram:N");
    return weight;
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
