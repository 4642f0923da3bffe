#include "ir/reference/Eval.h"

#include <cmath>

namespace lathe::reference {

static double sumOfSquares(const float *x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    sum += double(x[i]) * x[i];
  return sum;
}

StatusOr<Results> eval(graph::RmsNormOp op, const Frame &frame) {
  const Tensor &x = frame.tensor(op.getX());
  const Tensor &weight = frame.tensor(op.getWeight());
  double eps = op.getEps().convertToDouble();
  double bias = op.getPlusOne() ? 1 : 0;
  Tensor y(x.rows, x.cols);
  int64_t group = weight.cols;
  for (size_t g = 0; g < x.data.size(); g += group) {
    double mean = sumOfSquares(&x.data[g], group) / double(group);
    for (int64_t i = 0; i < group; ++i)
      y.data[g + i] = float(x.data[g + i] / std::sqrt(mean + eps) *
                            (bias + weight.data[i]));
  }
  return pack(std::move(y));
}

StatusOr<Results> eval(graph::L2NormOp op, const Frame &frame) {
  const Tensor &x = frame.tensor(op.getX());
  double eps = op.getEps().convertToDouble();
  double scale = op.getScale().convertToDouble();
  Tensor y(x.rows, x.cols);
  int64_t group = op.getGroup();
  for (size_t g = 0; g < x.data.size(); g += group) {
    double sum = sumOfSquares(&x.data[g], group);
    for (int64_t i = 0; i < group; ++i)
      y.data[g + i] = float(x.data[g + i] / std::sqrt(sum + eps) * scale);
  }
  return pack(std::move(y));
}

/// Turns the pairs (i, i + rotary/2) of one head at `position`.
static void rotateHead(float *head, int64_t rotary, double theta,
                       double position) {
  for (int64_t i = 0; i < rotary / 2; ++i) {
    double angle = position * std::pow(theta, -2.0 * double(i) / rotary);
    double c = std::cos(angle), s = std::sin(angle);
    double a = head[i], b = head[i + rotary / 2];
    head[i] = float(a * c - b * s);
    head[i + rotary / 2] = float(b * c + a * s);
  }
}

StatusOr<Results> eval(graph::RopeOp op, const Frame &frame) {
  Tensor y = frame.tensor(op.getX());
  int64_t position = frame.get<int64_t>(op.getPosition());
  double theta = op.getTheta().convertToDouble();
  for (int64_t t = 0; t < y.rows; ++t)
    for (int64_t h = 0; h < y.cols; h += op.getHeadDim())
      rotateHead(y.row(t) + h, op.getRotaryDim(), theta, double(position + t));
  return pack(std::move(y));
}

} // namespace lathe::reference
