//===- ModelShape.h - small models of awkward shapes ------------*- C++ -*-===//

#ifndef LATHE_TESTS_COMPILER_DRIVER_MODELSHAPE_H
#define LATHE_TESTS_COMPILER_DRIVER_MODELSHAPE_H

#include "compiler/driver/Compile.h"
#include "ir/kernel/Kernel.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"

#include <ostream>
#include <string>
#include <vector>

namespace lathe::difftest {

/// A model of one DeltaNet layer and one attention layer.
struct Shape {
  std::string name{};
  int64_t hidden = 64, intermediate = 96, vocab = 100;
  int64_t heads = 2, kvHeads = 1, headDim = 32;
  int64_t keyHeads = 2, valueHeads = 2, keyDim = 16, valueDim = 16;
  WeightFormat format = WeightFormat::BF16;
  int32_t group = 0; ///< where it does not divide a row: F16 instead
  bool asymmetric = false;
  std::vector<int64_t> decodeTokens = {1};
  int64_t prefillTokens = 65;
  std::string prefillForm = "int15";
  bool avx2 = false;
  // CUDA.
  std::string target = "cpu"; ///< see PipelineOptions
  std::string decodeForm = "mixed";
  bool halfKv = false;
  bool tied = false;       ///< the head is the table of tokens, in `format`
  bool denseGates = false; ///< the gates of DeltaNet are BF16
  int64_t split = 0;       ///< of decode linears; 0: as scheduled
  int64_t twins = 1;       ///< of those in front of 4-bit weights

  std::string config() const; ///< as config.json
  StatusOr<WeightDesc> describe(int64_t rows, int64_t cols) const;
};

inline std::ostream &operator<<(std::ostream &stream, const Shape &shape) {
  return stream << shape.name;
}

/// The value, or the end of the process with its error.
template <class T> T need(StatusOr<T> value) {
  if (!value.ok())
    llvm::report_fatal_error(messageOf(value.status()).c_str());
  return *std::move(value);
}

/// A model of this shape, lowered to kernels with their schedules.
mlir::OwningOpRef<mlir::ModuleOp> lowerModel(mlir::MLIRContext &context,
                                             const Shape &shape);

std::vector<kernel::FuncOp> kernelsOf(mlir::ModuleOp module);

/// The status of planning a model of this shape for the CPU, and of packing its
/// weights.
Status planStatus(const Shape &shape);

} // namespace lathe::difftest

#endif // LATHE_TESTS_COMPILER_DRIVER_MODELSHAPE_H
