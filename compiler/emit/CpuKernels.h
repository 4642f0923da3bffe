//===- CpuKernels.h - one printer per kernel anchor -------------*- C++ -*-===//
//
// Private to compiler/emit.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_EMIT_CPUKERNELS_H
#define LATHE_COMPILER_EMIT_CPUKERNELS_H

#include "compiler/emit/CpuEmitter.h"
#include "compiler/emit/KernelText.h"
#include "runtime/base/KernelAbi.h"

namespace lathe {

using CpuKernel = KernelText;

/// The device library's name for the format of a weight.
std::string formatName(graph::WeightType type);

mlir::LogicalResult printLinear(CpuKernel &kernel);
mlir::LogicalResult printEmbedding(CpuKernel &kernel);
mlir::LogicalResult printElementwise(CpuKernel &kernel);
mlir::LogicalResult printDelta(CpuKernel &kernel);
mlir::LogicalResult printAttention(CpuKernel &kernel);

} // namespace lathe

#endif // LATHE_COMPILER_EMIT_CPUKERNELS_H
