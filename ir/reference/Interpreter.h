//===- Interpreter.h - the definition of correct ----------------*- C++ -*-===//
//
// Executes graph and kernel IR on the host, one eval function per operation,
// slow and obvious. Every value is FP32; an eval computes in FP64 and rounds
// each result once (the recurrent state: once per token). A token's results
// therefore do not depend on how a sequence is cut into runs.
//
// Both back ends are tested against it. Meaning of each operation: ir/SPEC.md.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_IR_REFERENCE_INTERPRETER_H
#define LATHE_IR_REFERENCE_INTERPRETER_H

#include "ir/reference/Value.h"
#include "runtime/base/Status.h"

#include "mlir/Interfaces/FunctionInterfaces.h"
#include "llvm/ADT/ArrayRef.h"

#include <string_view>
#include <vector>

namespace lathe::reference {

/// Where `graph.weight` finds its values.
class WeightProvider {
public:
  virtual ~WeightProvider();

  /// The weight `name`, which must have the description `desc`. It stays alive
  /// and unchanged for as long as the provider lives.
  virtual StatusOr<const HostWeight *> weight(std::string_view name,
                                              const WeightDesc &desc) = 0;

  /// The parameter vector or matrix `name` of the given shape.
  virtual StatusOr<Tensor> tensor(std::string_view name,
                                  llvm::ArrayRef<int64_t> shape) = 0;
};

/// The state at the start of a sequence: an empty KV cache, zeros otherwise.
/// REQUIRES: graph::isState(type).
Value initialState(mlir::Type type);

/// Runs a func.func or kernel.func on `args`, one for each argument of its
/// signature, and returns its results. A kernel.launch runs the kernel.func it
/// names. All activation and token arguments must have the same number of
/// rows.
///
/// Errors: usageError for an argument that does not fit, modelError for an
/// operation or a parameter that does not; the message names the operation.
/// REQUIRES: the module that holds `func` verifies.
StatusOr<std::vector<Value>> run(mlir::FunctionOpInterface func,
                                 std::vector<Value> args,
                                 WeightProvider &weights);

} // namespace lathe::reference

#endif // LATHE_IR_REFERENCE_INTERPRETER_H
