//===- LinearKernels.h - the kernels under test, as a table -----*- C++ -*-===//
//
// LinearKernels.cpp is compiled once per instruction set, each time with the
// namespace `lathe` renamed, and exports its kernels as one table. Operands of
// a kernel: x, weight 0, weight 1 (Linear2 and Mixed), norm weight (Mixed),
// then the result.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_KERNELS_CPU_LINEAR_LINEARKERNELS_H
#define LATHE_TESTS_KERNELS_CPU_LINEAR_LINEARKERNELS_H

#include "runtime/base/KernelAbi.h"

enum class TestWeight { F32, F16, Bf16, Int4, NvFp4 };

enum class TestKind {
  Linear,      ///< out = W0 x
  Linear2,     ///< out = (W0 x) + 0.5 * (W1 x)
  Mixed,       ///< two segments over one normalised input of two parts
  Gather,      ///< out = row `position` of W0
  PlainGather, ///< the same, W0 row-major
};

struct LinearKernel {
  const char *name;
  LatheKernel run;
  TestKind kind;
  TestWeight format;
  int group;
  bool asymmetric;
  int rows, columns, maxTokens;
  bool shared;
  int forms, inputGroup;
  long long sharedBytes, localBytes, tileBytes;
};

struct LinearKernelTable {
  const LinearKernel *kernels;
  int count;
};

/// Rows of the second, BF16 segment of Mixed kernels, and the columns of the
/// first part of their input.
constexpr int kMixedRows = 16;
constexpr int kMixedSplit = 96;

extern "C" {
extern const LinearKernelTable latheTestAvx512Vnni;
extern const LinearKernelTable latheTestAvx512Bw;
extern const LinearKernelTable latheTestAvx2;
}

#endif // LATHE_TESTS_KERNELS_CPU_LINEAR_LINEARKERNELS_H
