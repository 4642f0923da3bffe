#include "ir/reference/Eval.h"

#include <cmath>

namespace lathe::reference {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double silu(double x) { return x * sigmoid(x); }

static Tensor map(const Tensor &x, double (*function)(double)) {
  Tensor y(x.rows, x.cols);
  for (size_t i = 0; i < y.data.size(); ++i)
    y.data[i] = float(function(x.data[i]));
  return y;
}

static Tensor zip(const Tensor &a, const Tensor &b,
                  double (*function)(double, double)) {
  Tensor y(a.rows, a.cols);
  for (size_t i = 0; i < y.data.size(); ++i)
    y.data[i] = float(function(a.data[i], b.data[i]));
  return y;
}

StatusOr<Results> eval(graph::SiluOp op, const Frame &frame) {
  return pack(map(frame.tensor(op.getX()), silu));
}

StatusOr<Results> eval(graph::SigmoidOp op, const Frame &frame) {
  return pack(map(frame.tensor(op.getX()), sigmoid));
}

StatusOr<Results> eval(graph::AddOp op, const Frame &frame) {
  return pack(zip(frame.tensor(op.getLhs()), frame.tensor(op.getRhs()),
                  [](double a, double b) { return a + b; }));
}

StatusOr<Results> eval(graph::MulOp op, const Frame &frame) {
  return pack(zip(frame.tensor(op.getLhs()), frame.tensor(op.getRhs()),
                  [](double a, double b) { return a * b; }));
}

StatusOr<Results> eval(graph::SwigluOp op, const Frame &frame) {
  return pack(zip(frame.tensor(op.getLhs()), frame.tensor(op.getRhs()),
                  [](double gate, double up) { return silu(gate) * up; }));
}

} // namespace lathe::reference
