//===- matmul_input.cuh - a prompt's activations as f16 rows ----*- CUDA
//-*-===//
//
// The first stage of a matmul: one block per token computes the printed
// prologue and writes the row as f16 into the workspace, [token][plane][padded
// columns]: the values, and with two planes what f16 left of them.
//
// Within 16 columns the order is the one in which ldmatrix hands columns to
// lanes: lane q gets slots 4q, 4q + 1 from place 2q on, 4q + 2, 4q + 3 from 8 +
// 2q on, which is how weights.cuh orders the weights.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATMUL_INPUT_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATMUL_INPUT_CUH

#include "compiler/device/cuda/linear_sizes.h"
#include "compiler/device/cuda/weights.cuh"

namespace lathe {

template <MatmulShape kShape> class MatmulInput {
public:
  LATHE_DEVICE_MEMBER MatmulInput(char *scratch, int token)
      : row((u32 *)scratch +
            (i64)token * kShape.planes * (kShape.paddedColumns() / 2)) {}

  /// Stores f(k) for columns [kBegin, kBegin + kWidth) of the input.
  template <int kBegin, int kWidth, class F>
  LATHE_DEVICE_MEMBER void fill(F f) const {
    static_assert(kBegin % 4 == 0);
    for (int k = threadX() * 4; k < kWidth; k += threadCount() * 4) {
      float v[4];
#pragma unroll
      for (int e = 0; e < 4; ++e)
        v[e] = k + e < kWidth ? f(k + e) * kActivationScale : 0.0f;
      store(kBegin + k, v);
    }
  }
  /// Zeros from the last column to the end of the row.
  LATHE_DEVICE_MEMBER void fillRest() const {
    const float zeros[4] = {};
    for (int k = roundUp(kShape.columns, 4) + threadX() * 4;
         k < kShape.paddedColumns(); k += threadCount() * 4)
      store(k, zeros);
  }

private:
  LATHE_DEVICE_MEMBER void store(int k, const float (&v)[4]) const {
    u32 upper[2] = {packHalf(v[0], v[1]), packHalf(v[2], v[3])};
    u32 *to = row + k / 16 * 8 + k % 16 / 4;
    to[0] = upper[0], to[4] = upper[1];
    if constexpr (kShape.planes == 2) {
      to += kShape.paddedColumns() / 2;
#pragma unroll
      for (int i = 0; i < 2; ++i)
        to[4 * i] = packHalf(v[2 * i] - lowerHalf(upper[i]),
                             v[2 * i + 1] - upperHalf(upper[i]));
    }
  }

  u32 *row; ///< pairs of columns
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATMUL_INPUT_CUH
