//===- Value.h - what the reference interpreter computes with ---*- C++ -*-===//
//
// Host-memory values of the graph dialect's types. All of them have value
// semantics; an operation that updates a state returns a new one.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_IR_REFERENCE_VALUE_H
#define LATHE_IR_REFERENCE_VALUE_H

#include "runtime/base/Weight.h"

#include <cstdint>
#include <variant>
#include <vector>

namespace lathe::reference {

/// A row-major f32 matrix: an activation has one row per token, a parameter
/// vector is one row.
struct Tensor {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> data; ///< rows * cols elements

  Tensor() = default;
  Tensor(int64_t rows, int64_t cols)
      : rows(rows), cols(cols), data(size_t(rows * cols)) {}
  Tensor(int64_t rows, int64_t cols, std::vector<float> data)
      : rows(rows), cols(cols), data(std::move(data)) {}

  float *row(int64_t r) { return data.data() + r * cols; }
  const float *row(int64_t r) const { return data.data() + r * cols; }
};

/// Token ids, `tensor<?xi32>`.
using Tokens = std::vector<int32_t>;

/// `!graph.kv<heads x head_dim>`: [positions][heads * head_dim], both.
struct KvState {
  std::vector<float> k;
  std::vector<float> v;
};

/// `!graph.conv<steps x channels>`: [steps][channels], oldest first, the
/// inputs of the convolution.
struct ConvState {
  std::vector<float> data;
};

/// `!graph.recurrent<heads x key_dim x value_dim>`:
/// [heads][key_dim][value_dim].
struct RecurrentState {
  std::vector<float> data;
};

/// A value of any type; int64_t is `index`. The weight is not owned.
using Value = std::variant<Tensor, Tokens, int64_t, const HostWeight *, KvState,
                           ConvState, RecurrentState>;

} // namespace lathe::reference

#endif // LATHE_IR_REFERENCE_VALUE_H
