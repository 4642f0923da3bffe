//===- RowPrinter.h - elementwise expressions over a row --------*- C++ -*-===//
//
// Prints a value of a kernel body as an expression for sixteen columns of one
// token. The same text means a scalar in CUDA C++ and a vector on the CPU.
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

class RowPrinter {
public:
  RowPrinter(const KernelOperands &operands, CodeWriter &code)
      : operands(operands), code(code) {}

  /// Makes `value` print as `text`: the result of an anchor.
  void bind(mlir::Value value, llvm::StringRef text) {
    bound[value] = text.str();
  }

  /// Prints the declarations that `value` needs inside the scope of token `t`:
  /// row pointers and norm scales.
  mlir::LogicalResult declare(mlir::Value value);

  /// The expression for columns [column, column + 16).
  mlir::FailureOr<std::string> at(mlir::Value value, const std::string &column);

private:
  mlir::LogicalResult declareScales(graph::RmsNormOp norm);

  const KernelOperands &operands;
  CodeWriter &code;
  llvm::DenseMap<mlir::Value, std::string> bound;
  llvm::DenseMap<mlir::Value, std::string> declared;
};

} // namespace lathe

#endif // LATHE_COMPILER_EMIT_ROWPRINTER_H
