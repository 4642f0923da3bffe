//===- SyntheticWeights.h - random parameters for benchmarks ----*- C++ -*-===//

#ifndef LATHE_RUNTIME_MEMORY_SYNTHETICWEIGHTS_H
#define LATHE_RUNTIME_MEMORY_SYNTHETICWEIGHTS_H

#include "runtime/memory/WeightSource.h"

namespace lathe {

/// Makes parameters of any name and shape, the same for a name each time, of a
/// size that keeps activations finite through any number of layers. Stateless
/// and thread-safe.
class SyntheticWeights : public WeightSource {
public:
  StatusOr<HostWeight> weight(const std::string &name,
                              const WeightDesc &expected) override;
  StatusOr<std::vector<float>> tensor(const std::string &name,
                                      std::span<const int64_t> shape) override;
};

} // namespace lathe

#endif // LATHE_RUNTIME_MEMORY_SYNTHETICWEIGHTS_H
