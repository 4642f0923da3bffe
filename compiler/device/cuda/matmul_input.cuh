//===- matmul_input.cuh - a prompt's activations as f16 rows ---*- CUDA -*-===//
//
// The first stage of a matmul: one block per token computes the printed
// prologue and writes the row as f16 into the workspace, where the shape says:
// the values, and with two planes what f16 left of them.
//
// Within 16 columns the order is the one in which ldmatrix hands columns to
// lanes: lane q gets slots 4q, 4q + 1 from place 2q on, 4q + 2, 4q + 3 from 8 +
// 2q on, which is how weights.cuh orders the weights.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_MATMUL_INPUT_CUH
#define LATHE_COMPILER_DEVICE_CUDA_MATMUL_INPUT_CUH

#include "compiler/device/cuda/linear_sizes.h"
#include "compiler/device/cuda/rms.cuh"
#include "compiler/device/cuda/weights.cuh"

namespace lathe {

template <auto kShape> class MatmulInput {
public:
  LATHE_DEVICE_MEMBER MatmulInput(char *scratch, int token)
      : scratch(scratch), token(token) {}

  /// Stores f(0, k) for columns [kBegin, kBegin + kWidth) of the input.
  template <int kBegin, int kWidth, class F>
  LATHE_DEVICE_MEMBER void fill(F f) const {
    static_assert(kBegin % 4 == 0);
#pragma unroll 4
    for (int k = threadX() * 4; k < kWidth; k += threadCount() * 4) {
      store(kBegin + k, fourOf<kWidth>(f, 0, k) * kActivationScale);
    }
  }
  /// Zeros from the last column to the end of the row.
  LATHE_DEVICE_MEMBER void fillRest() const {
    for (int k = roundUp(kShape.columns, 4) + threadX() * 4;
         k < kShape.paddedColumns(); k += threadCount() * 4)
      store(k, Float4{0, 0, 0, 0});
  }

private:
  LATHE_DEVICE_MEMBER void store(int k, Float4 v) const {
    HalfParts parts(v);
    store(kShape.place(token, 0, k), parts.upper);
    if constexpr (kShape.planes == 2)
      store(kShape.place(token, 1, k), parts.lower);
  }
  LATHE_DEVICE_MEMBER void store(i64 place, const u32 (&pairs)[2]) const {
    *(u32 *)(scratch + place) = pairs[0];
    *(u32 *)(scratch + (place ^ 16)) = pairs[1];
  }

  char *const scratch;
  const int token;
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_MATMUL_INPUT_CUH
