#include "ir/reference/Eval.h"

#include <algorithm>

namespace lathe::reference {

StatusOr<Results> eval(graph::SliceOp op, const Frame &frame) {
  const Tensor &x = frame.tensor(op.getX());
  int64_t group = op.getGroup(), offset = op.getOffset(), size = op.getSize();
  Tensor y(x.rows, x.cols / group * size);
  for (int64_t t = 0; t < x.rows; ++t)
    for (int64_t g = 0; g < x.cols / group; ++g)
      std::copy_n(x.row(t) + g * group + offset, size, y.row(t) + g * size);
  return pack(std::move(y));
}

StatusOr<Results> eval(graph::ConcatOp op, const Frame &frame) {
  Tensor y(frame.tensor(op.getInputs().front()).rows,
           graph::widthOf(op.getResult()));
  int64_t offset = 0;
  for (mlir::Value input : op.getInputs()) {
    const Tensor &x = frame.tensor(input);
    for (int64_t t = 0; t < x.rows; ++t)
      std::copy_n(x.row(t), x.cols, y.row(t) + offset);
    offset += x.cols;
  }
  return pack(std::move(y));
}

} // namespace lathe::reference
