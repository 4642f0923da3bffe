//===- RandomValues.h - what kernels are run on -----------------*- C++ -*-===//
//
// Random values of every type of the graph dialect, as the reference
// interpreter takes them, for one launch.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_COMPILER_DRIVER_RANDOMVALUES_H
#define LATHE_TESTS_COMPILER_DRIVER_RANDOMVALUES_H

#include "ir/graph/Graph.h"
#include "ir/reference/Value.h"

#include <memory>
#include <random>
#include <vector>

namespace lathe::difftest {

/// A weight of this description whose products have unit size: scales of every
/// size and sign, all codes, random zero points.
HostWeight randomWeight(const WeightDesc &desc, std::mt19937 &generator);

/// Weights live as long as this.
class RandomValues {
public:
  /// The position is often 0, and at most `farthest`.
  RandomValues(std::mt19937 &generator, int64_t vocab, int64_t tokens,
               int64_t farthest);

  reference::Value make(mlir::Type type);

  const int64_t tokens;   ///< of the launch
  const int64_t position; ///< of the first; the value of an index
  const int64_t capacity; ///< positions that a KV cache can hold

private:
  reference::Value makeTensor(mlir::RankedTensorType type);
  reference::KvState makeKv(graph::KvType type);

  std::mt19937 &generator;
  const int64_t vocab;
  std::vector<std::unique_ptr<HostWeight>> weights;
};

} // namespace lathe::difftest

#endif // LATHE_TESTS_COMPILER_DRIVER_RANDOMVALUES_H
