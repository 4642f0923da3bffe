//===- CudaOperands.h - operands of CUDA kernels ----------------*- C++ -*-===//
//
// As KernelOperands.h for the CPU. What differs: weights are packed by the
// device code, KV caches may be f16, and the inputs of a convolution are a ring
// in which rows that nobody needs are NaNs. Padding of rows is NaNs, too.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_COMPILER_CUDA_CUDAOPERANDS_H
#define LATHE_TESTS_COMPILER_CUDA_CUDAOPERANDS_H

#include "tests/compiler/cuda/CudaWeightPacker.h"
#include "tests/compiler/driver/KernelOperands.h"

namespace lathe::difftest {

/// Bytes for operand.value of any type, as CUDA kernels read them.
void placeOnCuda(Operand &operand, plan::Layout layout,
                 const RandomValues &random, CudaWeightPacker &packer);

/// As distance() for the CPU, after a launch of random.tokens tokens.
double cudaDistance(const reference::Value &wanted, Operand &found,
                    const RandomValues &random);

/// Token `t` of an operand that has rows for tokens; any other as it is.
Operand tokenOf(const Operand &operand, int64_t t);

} // namespace lathe::difftest

#endif // LATHE_TESTS_COMPILER_CUDA_CUDAOPERANDS_H
