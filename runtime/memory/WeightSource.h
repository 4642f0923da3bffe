//===- WeightSource.h - where parameters come from --------------*- C++ -*-===//

#ifndef LATHE_RUNTIME_MEMORY_WEIGHTSOURCE_H
#define LATHE_RUNTIME_MEMORY_WEIGHTSOURCE_H

#include "runtime/base/Status.h"
#include "runtime/base/Weight.h"

#include <span>
#include <string>
#include <vector>

namespace lathe {

/// Reads parameters by canonical name. Calls may come from several threads.
class WeightSource {
public:
  virtual ~WeightSource() = default;

  /// A weight matrix; its description must equal `expected`.
  virtual StatusOr<HostWeight> weight(const std::string &name,
                                      const WeightDesc &expected) = 0;

  /// A float tensor of the given shape, row-major.
  virtual StatusOr<std::vector<float>>
  tensor(const std::string &name, std::span<const int64_t> shape) = 0;
};

} // namespace lathe

#endif // LATHE_RUNTIME_MEMORY_WEIGHTSOURCE_H
