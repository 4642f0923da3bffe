//===- Eval.h - the eval functions of the graph operations ------*- C++ -*-===//
//
// Internal to ir/reference: one overload of eval() per operation. The
// interpreter has checked arguments against the function's signature, and the
// verifier has checked each operation, so an eval only checks what depends on
// run-time values.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_IR_REFERENCE_EVAL_H
#define LATHE_IR_REFERENCE_EVAL_H

#include "ir/graph/Graph.h"
#include "ir/reference/Interpreter.h"

#include "llvm/ADT/DenseMap.h"

namespace lathe::reference {

/// The values of one function activation.
class Frame {
public:
  explicit Frame(WeightProvider &weights) : provider(weights) {}

  /// The value of an operand, which has the C++ type of its MLIR type.
  template <typename T> const T &get(mlir::Value value) const {
    return *std::get_if<T>(&values.find(value)->second);
  }
  const Tensor &tensor(mlir::Value value) const { return get<Tensor>(value); }
  const HostWeight &weight(mlir::Value value) const {
    return *get<const HostWeight *>(value);
  }
  const Value &value(mlir::Value value) const {
    return values.find(value)->second;
  }
  void bind(mlir::Value name, Value value) { values[name] = std::move(value); }
  WeightProvider &weights() const { return provider; }

private:
  WeightProvider &provider;
  llvm::DenseMap<mlir::Value, Value> values;
};

using Results = std::vector<Value>;

/// Packs the results of an operation, in order.
template <typename... Ts> Results pack(Ts &&...values) {
  Results results;
  (results.push_back(std::forward<Ts>(values)), ...);
  return results;
}

/// Checks that `weight` has the description `desc` and all of its bytes.
Status checkWeight(const HostWeight *weight, const WeightDesc &desc);

double sigmoid(double x);
double silu(double x);

StatusOr<Results> eval(graph::WeightOp op, const Frame &frame);

StatusOr<Results> eval(graph::SiluOp op, const Frame &frame);
StatusOr<Results> eval(graph::SigmoidOp op, const Frame &frame);
StatusOr<Results> eval(graph::AddOp op, const Frame &frame);
StatusOr<Results> eval(graph::MulOp op, const Frame &frame);
StatusOr<Results> eval(graph::SwigluOp op, const Frame &frame);

StatusOr<Results> eval(graph::SliceOp op, const Frame &frame);
StatusOr<Results> eval(graph::ConcatOp op, const Frame &frame);

StatusOr<Results> eval(graph::RmsNormOp op, const Frame &frame);
StatusOr<Results> eval(graph::L2NormOp op, const Frame &frame);
StatusOr<Results> eval(graph::RopeOp op, const Frame &frame);

StatusOr<Results> eval(graph::EmbeddingOp op, const Frame &frame);
StatusOr<Results> eval(graph::LinearOp op, const Frame &frame);

StatusOr<Results> eval(graph::ShortConvOp op, const Frame &frame);
StatusOr<Results> eval(graph::DeltaGatesOp op, const Frame &frame);
StatusOr<Results> eval(graph::DeltaRuleOp op, const Frame &frame);
StatusOr<Results> eval(graph::AttentionOp op, const Frame &frame);

} // namespace lathe::reference

#endif // LATHE_IR_REFERENCE_EVAL_H
