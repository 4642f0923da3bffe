//===- ModelBuilder.h - writes graph IR for model families ------*- C++ -*-===//
//
// A thin layer over OpBuilder for the files in models/<family>: parameters by
// checkpoint name, the blocks that families share, and entry functions with
// their states. Not thread-safe.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_MODELS_COMMON_MODELBUILDER_H
#define LATHE_MODELS_COMMON_MODELBUILDER_H

#include "ir/graph/Graph.h"
#include "runtime/base/Status.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

#include <functional>

namespace lathe::models {

/// The storage format of a weight matrix, by canonical module name (for
/// example "layers.0.mlp.up_proj") and shape. A checkpoint answers from its
/// headers, a synthetic model from the command line.
using WeightCatalog = std::function<StatusOr<WeightDesc>(
    std::string_view module, int64_t rows, int64_t cols)>;

class ModelBuilder {
public:
  ModelBuilder(mlir::MLIRContext *context, const WeightCatalog &catalog);

  /// Opens `@name`; the states declared afterwards become its last arguments
  /// and, updated, its last results.
  void beginFunction(llvm::StringRef name, llvm::ArrayRef<mlir::Type> inputs);
  /// Most tokens that a prefill of this function takes at once.
  void limitTokens(int64_t tokens);
  mlir::Value input(unsigned index);
  mlir::Value addState(llvm::StringRef name, mlir::Type type);
  /// Closes the function; `states` are the updated states in the order of
  /// their addState calls.
  void endFunction(llvm::ArrayRef<mlir::Value> outputs,
                   llvm::ArrayRef<mlir::Value> states);

  /// Parameters. A format that the catalog refuses is kept as the first error.
  mlir::Value weight(llvm::StringRef module, int64_t rows, int64_t cols);
  mlir::Value vector(llvm::StringRef name, int64_t size);
  mlir::Value matrix(llvm::StringRef name, int64_t rows, int64_t cols);

  mlir::Value embedding(mlir::Value tokens, llvm::StringRef module,
                        int64_t rows, int64_t cols);
  mlir::Value linear(mlir::Value x, llvm::StringRef module, int64_t rows);
  mlir::Value rmsNorm(mlir::Value x, llvm::StringRef name, int64_t group,
                      double eps, bool plusOne);
  mlir::Value slice(mlir::Value x, int64_t group, int64_t offset, int64_t size);
  mlir::Value concat(llvm::ArrayRef<mlir::Value> inputs);
  mlir::Value add(mlir::Value a, mlir::Value b);
  mlir::Value mul(mlir::Value a, mlir::Value b);
  mlir::Value silu(mlir::Value x);
  mlir::Value sigmoid(mlir::Value x);
  /// down(silu(gate(x)) * up(x)) with modules `prefix`.{gate,up,down}_proj.
  mlir::Value swigluMlp(mlir::Value x, const std::string &prefix,
                        int64_t intermediate);

  mlir::OpBuilder &ops() { return builder; }
  mlir::Location location() { return builder.getUnknownLoc(); }
  mlir::RankedTensorType activation(int64_t width);
  mlir::RankedTensorType tokens();

  /// The finished module, or the first error.
  StatusOr<mlir::OwningOpRef<mlir::ModuleOp>> finish();

private:
  mlir::OpBuilder builder;
  const WeightCatalog &catalog;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  mlir::func::FuncOp function;
  Status status;
};

} // namespace lathe::models

#endif // LATHE_MODELS_COMMON_MODELBUILDER_H
