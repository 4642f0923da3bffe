//===- CudaStep.h - a whole decode step as one kernel -----------*- C++ -*-===//
//
// The persistent step of compiler/device/cuda/step.cuh: a loop over the stages
// of a step, and for each a switch over the kernels that it is made of. Which
// stages, with which operands, is a table that the runtime fills in.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_EMIT_CUDASTEP_H
#define LATHE_COMPILER_EMIT_CUDASTEP_H

#include "compiler/emit/EmittedKernel.h"

#include <optional>
#include <string_view>
#include <utility>

namespace lathe {

struct CudaStepLimits {
  int blocks = 0;         ///< one per SM
  int sharedPerBlock = 0; ///< bytes
};

/// A kernel of the step, and its index in the plan.
using CudaStepKernel = std::pair<int32_t, const EmittedKernel *>;

/// The step `name` made of `kernels`, each once and able to be part of it.
/// Nothing if they do not fit into the shared memory together, or have no
/// weights to fetch.
std::optional<EmittedKernel>
emitCudaStep(std::string_view name, const std::vector<CudaStepKernel> &kernels,
             const CudaStepLimits &limits);

} // namespace lathe

#endif // LATHE_COMPILER_EMIT_CUDASTEP_H
