//===- operands.cuh - the pointers a kernel is called with -----*- CUDA -*-===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_OPERANDS_CUH
#define LATHE_COMPILER_DEVICE_CUDA_OPERANDS_CUH

#include "compiler/device/cuda/prelude.cuh"

namespace lathe {

/// By value, so that they live in registers.
template <int kCount> struct Operands {
  void *pointers[kCount];

  LATHE_DEVICE_MEMBER void *operator[](int i) const { return pointers[i]; }
};

/// Those of a stage of the persistent step: operands<n>().
struct StageOperands {
  const LatheStage &stage;

  template <int kCount> LATHE_DEVICE_MEMBER Operands<kCount> operands() const {
    static_assert(kCount <= LATHE_STAGE_OPERANDS);
    Operands<kCount> found;
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      found.pointers[i] = stage.operands[i];
    return found;
  }
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_OPERANDS_CUH
