#include "ir/reference/Eval.h"

#include <cmath>

namespace lathe::reference {

StatusOr<Results> eval(graph::ShortConvOp op, const Frame &frame) {
  const Tensor &x = frame.tensor(op.getX());
  const Tensor &weight = frame.tensor(op.getWeight());
  Tensor u(op.getState().getType().getSteps() + x.rows, x.cols,
           frame.get<ConvState>(op.getState()).data);
  u.data.insert(u.data.end(), x.data.begin(), x.data.end());
  Tensor y(x.rows, x.cols);
  for (int64_t t = 0; t < x.rows; ++t)
    for (int64_t c = 0; c < x.cols; ++c) {
      double sum = 0;
      for (int64_t j = 0; j < weight.cols; ++j)
        sum += double(weight.row(c)[j]) * u.row(t + j)[c];
      y.row(t)[c] = float(silu(sum));
    }
  std::vector<float> last(u.data.begin() + x.rows * x.cols, u.data.end());
  return pack(std::move(y), ConvState{std::move(last)});
}

static double softplus(double x) {
  return std::fmax(x, 0) + std::log1p(std::exp(-std::fabs(x)));
}

StatusOr<Results> eval(graph::DeltaGatesOp op, const Frame &frame) {
  const Tensor &a = frame.tensor(op.getA()), &b = frame.tensor(op.getB());
  const Tensor &aLog = frame.tensor(op.getALog());
  const Tensor &dtBias = frame.tensor(op.getDtBias());
  Tensor decay(a.rows, a.cols), beta(a.rows, a.cols);
  for (int64_t t = 0; t < a.rows; ++t)
    for (int64_t h = 0; h < a.cols; ++h) {
      double dt = softplus(double(a.row(t)[h]) + dtBias.data[h]);
      decay.row(t)[h] = float(-std::exp(double(aLog.data[h])) * dt);
      beta.row(t)[h] = float(sigmoid(b.row(t)[h]));
    }
  return pack(std::move(decay), std::move(beta));
}

/// One token of one head. The columns of `state` do not interact.
static void deltaStep(const float *q, const float *k, const float *v,
                      double decay, double beta, int64_t keyDim,
                      int64_t valueDim, float *state, float *out) {
  double shrink = std::exp(decay);
  for (int64_t j = 0; j < valueDim; ++j) {
    double recalled = 0;
    for (int64_t i = 0; i < keyDim; ++i)
      recalled += shrink * state[i * valueDim + j] * k[i];
    double delta = beta * (v[j] - recalled);
    double read = 0;
    for (int64_t i = 0; i < keyDim; ++i) {
      float &s = state[i * valueDim + j];
      s = float(shrink * s + k[i] * delta);
      read += double(s) * q[i];
    }
    out[j] = float(read);
  }
}

StatusOr<Results> eval(graph::DeltaRuleOp op, const Frame &frame) {
  const Tensor &q = frame.tensor(op.getQ()), &k = frame.tensor(op.getK());
  const Tensor &v = frame.tensor(op.getV());
  const Tensor &decay = frame.tensor(op.getDecay());
  const Tensor &beta = frame.tensor(op.getBeta());
  graph::RecurrentType type = op.getState().getType();
  int64_t keyDim = type.getKeyDim(), valueDim = type.getValueDim();
  int64_t sharing = type.getHeads() / int64_t(op.getKeyHeads());
  RecurrentState state = frame.get<RecurrentState>(op.getState());
  Tensor y(v.rows, v.cols);
  for (int64_t t = 0; t < v.rows; ++t)
    for (int64_t j = 0; j < type.getHeads(); ++j)
      deltaStep(q.row(t) + j / sharing * keyDim,
                k.row(t) + j / sharing * keyDim, v.row(t) + j * valueDim,
                decay.row(t)[j], beta.row(t)[j], keyDim, valueDim,
                state.data.data() + j * keyDim * valueDim,
                y.row(t) + j * valueDim);
  return pack(std::move(y), std::move(state));
}

} // namespace lathe::reference
