//===- RowPrinter.h - elementwise expressions over a row --------*- C++ -*-===//
//
// Prints a value of a kernel body as an expression for some columns of one
// token: the same arithmetic means sixteen columns on the CPU and one in CUDA
// C++. What differs is how rows are found and norms are summed.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_EMIT_ROWPRINTER_H
#define LATHE_COMPILER_EMIT_ROWPRINTER_H

#include "compiler/emit/CodeWriter.h"

#include "ir/graph/Graph.h"

#include "llvm/ADT/DenseMap.h"

namespace lathe {

/// Index of each pointer operand of a kernel in its `args`: arguments without
/// indices, then results without states.
class KernelOperands {
public:
  explicit KernelOperands(mlir::Block &body);
  int of(mlir::BlockArgument argument) const {
    return arguments.lookup(argument.getArgNumber());
  }
  int ofResult(unsigned result) const { return results.lookup(result); }

private:
  llvm::DenseMap<unsigned, int> arguments, results;
};

/// Where a printed expression stands.
struct RowScope {
  enum class Kind {
    CpuRow,     ///< a vector of columns; `t` is the token of the loop around
    CudaRow,    ///< a column; `t` is the token of the block
    CudaTokens, ///< a column; `t` is a parameter of the lambda around
  } kind = Kind::CpuRow;
  std::string team{}; ///< CUDA: the threads that sum up norms (team.cuh)
  int64_t tokens = 1; ///< CudaTokens: how many there are
  /// CUDA: pointers to room for the scales of norms, `tokens` of each group,
  /// and for a float per warp and token.
  std::string scales{}, partials{};
  /// CUDA: the first column and the count of those whose scales are needed;
  /// empty: all.
  std::string columns{};
};

class RowPrinter {
public:
  RowPrinter(const KernelOperands &operands, CodeWriter &code,
             RowScope scope = {})
      : operands(operands), code(code), scope(std::move(scope)) {}

  /// Makes `value` print as `text`: the result of an anchor.
  void bind(mlir::Value value, llvm::StringRef text) {
    bound[value] = text.str();
  }

  /// Makes `norm` print without its scale.
  void leaveUnscaled(graph::RmsNormOp norm) { unscaled = norm; }

  /// Prints the declarations that `value` needs inside the scope of token `t`:
  /// row pointers and norm scales.
  mlir::LogicalResult declare(mlir::Value value);

  /// The expression for the columns from `column` on.
  mlir::FailureOr<std::string> at(mlir::Value value, const std::string &column);

  /// CUDA: the expression for four columns from `column` on, where the rows
  /// that `value` reads are aligned for that, else for one.
  mlir::FailureOr<std::string> columnsAt(mlir::Value value,
                                         const std::string &column);

  /// Floats per token that the norms declared so far keep in `scope.scales`.
  int64_t scaleFloats() const { return scaleCount; }

private:
  bool isCpu() const { return scope.kind == RowScope::Kind::CpuRow; }
  mlir::LogicalResult declareScales(graph::RmsNormOp norm);
  mlir::LogicalResult declareCudaScales(graph::RmsNormOp norm,
                                        const std::string &name);
  mlir::FailureOr<std::string> normAt(graph::RmsNormOp norm,
                                      const std::string &column);

  const KernelOperands &operands;
  CodeWriter &code;
  const RowScope scope;
  bool fours = false; ///< print for four columns
  int64_t scaleCount = 0;
  graph::RmsNormOp unscaled;
  llvm::DenseMap<mlir::Value, std::string> bound;
  llvm::DenseMap<mlir::Value, std::string> declared;
};

} // namespace lathe

#endif // LATHE_COMPILER_EMIT_ROWPRINTER_H
