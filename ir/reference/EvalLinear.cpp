#include "ir/reference/Eval.h"

namespace lathe::reference {

StatusOr<Results> eval(graph::WeightOp op, const Frame &frame) {
  llvm::StringRef name = op.getName();
  if (auto type = llvm::dyn_cast<graph::WeightType>(op.getType())) {
    LATHE_ASSIGN_OR_RETURN(const HostWeight *weight,
                           frame.weights().weight(name, type.getDesc()));
    LATHE_RETURN_IF_ERROR(annotate(checkWeight(weight, type.getDesc()), name));
    return pack(weight);
  }
  auto type = llvm::cast<mlir::RankedTensorType>(op.getType());
  LATHE_ASSIGN_OR_RETURN(Tensor tensor,
                         frame.weights().tensor(name, type.getShape()));
  int64_t rows = type.getRank() == 1 ? 1 : type.getDimSize(0);
  int64_t cols = type.getDimSize(type.getRank() - 1);
  if (tensor.rows != rows || tensor.cols != cols ||
      int64_t(tensor.data.size()) != rows * cols)
    return modelError("the parameter " + name.str() + " is " +
                      std::to_string(tensor.rows) + "x" +
                      std::to_string(tensor.cols) + ", expected " +
                      std::to_string(rows) + "x" + std::to_string(cols));
  return pack(std::move(tensor));
}

StatusOr<Results> eval(graph::EmbeddingOp op, const Frame &frame) {
  const Tokens &tokens = frame.get<Tokens>(op.getTokens());
  const HostWeight &table = frame.weight(op.getTable());
  Tensor y(int64_t(tokens.size()), table.desc.cols);
  for (int64_t t = 0; t < y.rows; ++t) {
    if (tokens[t] < 0 || tokens[t] >= table.desc.rows)
      return usageError("token " + std::to_string(tokens[t]) +
                        " is not in the table of " +
                        std::to_string(table.desc.rows));
    table.dequantizeRow(tokens[t], y.row(t));
  }
  return pack(std::move(y));
}

StatusOr<Results> eval(graph::LinearOp op, const Frame &frame) {
  const Tensor &x = frame.tensor(op.getX());
  const HostWeight &weight = frame.weight(op.getWeight());
  Tensor y(x.rows, weight.desc.rows);
  std::vector<float> w(size_t(weight.desc.cols));
  for (int64_t n = 0; n < y.cols; ++n) {
    weight.dequantizeRow(n, w.data());
    for (int64_t t = 0; t < x.rows; ++t) {
      double sum = 0;
      for (int64_t k = 0; k < x.cols; ++k)
        sum += double(w[k]) * x.row(t)[k];
      y.row(t)[n] = float(sum);
    }
  }
  return pack(std::move(y));
}

} // namespace lathe::reference
