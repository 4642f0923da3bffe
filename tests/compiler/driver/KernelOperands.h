//===- KernelOperands.h - random operands for both sides --------*- C++ -*-===//
//
// An operand exists twice: as a value of the reference interpreter and as the
// bytes that a kernel reads, in the layout that the plan names.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_COMPILER_DRIVER_KERNELOPERANDS_H
#define LATHE_TESTS_COMPILER_DRIVER_KERNELOPERANDS_H

#include "ir/graph/Graph.h"
#include "ir/plan/Plan.h"
#include "ir/reference/Value.h"

#include <memory>
#include <random>

namespace lathe::difftest {

/// Four of them make a NaN.
inline constexpr int kPoison = 0xff;

/// Floats from row to row of an activation.
int64_t strideOf(int64_t width);

/// The two sides of one operand or result.
struct Operand {
  mlir::Type type;
  reference::Value value;
  std::vector<uint8_t> memory; ///< aligned inside, with a guard behind
  size_t offset = 0, bytes = 0;

  void reserve(size_t size, int fill);
  uint8_t *data() { return memory.data() + offset; }
  float *floats() { return reinterpret_cast<float *>(data()); }
  bool guardIsIntact() const;
};

/// The largest difference of what a kernel left in `found` from `wanted`, in
/// units of max(1, root mean square of `wanted`, magnitude of the element).
/// Positions of a KV cache that the reference does not have must still be NaN.
double distance(const reference::Value &wanted, Operand &found,
                int64_t capacity);

/// Makes operands for one launch. Weights live as long as the maker.
class OperandMaker {
public:
  OperandMaker(std::mt19937 &generator, int64_t vocab, int64_t tokens);

  Operand make(mlir::Type type, plan::Layout layout);

  const int64_t tokens, position, capacity;

private:
  void fillTensor(Operand &operand, mlir::RankedTensorType type,
                  plan::Layout layout);
  void fillWeight(Operand &operand, graph::WeightType type,
                  plan::Layout layout);
  void fillKv(Operand &operand, graph::KvType type);
  reference::Tensor random(int64_t rows, int64_t cols, float scale);

  std::mt19937 &generator;
  const int64_t vocab;
  std::vector<std::unique_ptr<HostWeight>> weights;
};

} // namespace lathe::difftest

#endif // LATHE_TESTS_COMPILER_DRIVER_KERNELOPERANDS_H
