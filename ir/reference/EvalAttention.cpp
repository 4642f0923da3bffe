#include "ir/reference/Eval.h"

#include "runtime/base/Float.h"

#include <algorithm>
#include <cmath>

namespace lathe::reference {

/// One query head over `length` positions. `k` and `v` point at the head's
/// columns of position 0; positions are `stride` floats apart.
static void attendHead(const float *q, const float *k, const float *v,
                       int64_t length, int64_t stride, int64_t headDim,
                       double scale, float *out) {
  std::vector<double> weight(static_cast<size_t>(length));
  for (int64_t p = 0; p < length; ++p) {
    double dot = 0;
    for (int64_t i = 0; i < headDim; ++i)
      dot += double(q[i]) * k[p * stride + i];
    weight[p] = scale * dot;
  }
  double largest = *std::max_element(weight.begin(), weight.end());
  double total = 0;
  for (double &w : weight)
    total += w = std::exp(w - largest);
  for (int64_t i = 0; i < headDim; ++i) {
    double sum = 0;
    for (int64_t p = 0; p < length; ++p)
      sum += weight[p] * v[p * stride + i];
    out[i] = float(sum / total);
  }
}

/// Keeps the first `position` rows of `cache` and appends those of `rows` as
/// the cache holds them.
static void append(std::vector<float> &cache, int64_t position,
                   const Tensor &rows, bool half) {
  cache.resize(size_t(position * rows.cols));
  for (float value : rows.data)
    cache.push_back(half ? f16ToFloat(floatToF16(value)) : value);
}

StatusOr<Results> eval(graph::AttentionOp op, const Frame &frame) {
  const Tensor &q = frame.tensor(op.getQ()), &k = frame.tensor(op.getK());
  KvState kv = frame.get<KvState>(op.getState());
  int64_t position = frame.get<int64_t>(op.getPosition());
  if (position * k.cols > int64_t(kv.k.size()))
    return usageError("position " + std::to_string(position) +
                      " leaves a gap after the " +
                      std::to_string(int64_t(kv.k.size()) / k.cols) +
                      " positions of the cache");
  const bool half = op.getState().getType().getHalf();
  append(kv.k, position, k, half);
  append(kv.v, position, frame.tensor(op.getV()), half);
  int64_t headDim = op.getState().getType().getHeadDim();
  int64_t sharing = q.cols / k.cols;
  Tensor y(q.rows, q.cols);
  for (int64_t t = 0; t < q.rows; ++t)
    for (int64_t h = 0; h < q.cols / headDim; ++h) {
      int64_t column = h / sharing * headDim;
      attendHead(q.row(t) + h * headDim, kv.k.data() + column,
                 kv.v.data() + column, position + t + 1, k.cols, headDim,
                 op.getScale().convertToDouble(), y.row(t) + h * headDim);
    }
  return pack(std::move(y), std::move(kv));
}

} // namespace lathe::reference
