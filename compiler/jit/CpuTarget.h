//===- CpuTarget.h - the CPU that kernels are compiled for ------*- C++ -*-===//
//
// Two instruction sets are supported, each with its own dequantisation code:
//
//   avx512  AVX-512 F, BW, VL, DQ and VNNI (Zen 4, Ice Lake and later);
//           AVX512-BF16 is used where there is one
//   avx2    AVX2, FMA and F16C (Haswell, Zen and later)
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_JIT_CPUTARGET_H
#define LATHE_COMPILER_JIT_CPUTARGET_H

#include "runtime/base/Status.h"

#include <string>

namespace lathe {

struct CpuTarget {
  std::string name;     ///< "avx512" or "avx2"
  std::string cpu;      ///< LLVM's name of the CPU, for scheduling
  std::string features; ///< "+avx2,-avx512f,...", sorted by name

  bool operator==(const CpuTarget &) const = default;
};

/// The CPU this process runs on, at its best instruction set; with `forceAvx2`
/// without AVX-512 even where there is one. Fails, naming what is missing, on
/// a CPU that has neither. Thread-safe.
StatusOr<CpuTarget> hostTarget(bool forceAvx2);

} // namespace lathe

#endif // LATHE_COMPILER_JIT_CPUTARGET_H
