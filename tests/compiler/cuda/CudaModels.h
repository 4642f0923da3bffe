//===- CudaModels.h - the models whose kernels are tested -------*- C++ -*-===//

#ifndef LATHE_TESTS_COMPILER_CUDA_CUDAMODELS_H
#define LATHE_TESTS_COMPILER_CUDA_CUDAMODELS_H

#include "compiler/emit/EmittedKernel.h"
#include "tests/compiler/driver/ModelShape.h"

namespace lathe::difftest {

/// Every format, groups of every grain, columns and rows that fill no unit and
/// no tile, heads of many sizes; two architectures, which differ in how columns
/// are split and in NvFp4.
std::vector<Shape> cudaShapes();

/// The kernels of a model that was lowered for `target`, as texts, in its
/// order.
std::vector<EmittedKernel> emitForCuda(mlir::ModuleOp module,
                                       std::string_view target);

} // namespace lathe::difftest

#endif // LATHE_TESTS_COMPILER_CUDA_CUDAMODELS_H
