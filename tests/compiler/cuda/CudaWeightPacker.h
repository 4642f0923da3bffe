//===- CudaWeightPacker.h - weights packed by the device code ---*- C++ -*-===//

#ifndef LATHE_TESTS_COMPILER_CUDA_CUDAWEIGHTPACKER_H
#define LATHE_TESTS_COMPILER_CUDA_CUDAWEIGHTPACKER_H

#include "runtime/base/Weight.h"
#include "tests/compiler/cuda/CudaBackend.h"

#include <set>
#include <string>
#include <vector>

namespace lathe::difftest {

/// Packs weights as the loader does, with pack.cuh on the backend, and reads
/// them again with weights.cuh. Failures of the backend end the process.
class CudaWeightPacker {
public:
  CudaWeightPacker(CudaBackend &backend, std::string arch);

  /// cudaPackedBytes() with header. The first tile is a piece of its own. Bytes
  /// that nobody writes stay `fill`.
  GuardedMemory pack(const HostWeight &weight, int fill = kPoison);

  /// What weightAt() says of every element of packed rows x cols.
  std::vector<float> unpack(const WeightDesc &desc,
                            const GuardedMemory &packed);

private:
  void packPiece(const HostWeight &weight, int64_t firstRow, int64_t rows,
                 GuardedMemory &packed);
  void launch(const char *entry, std::vector<GuardedMemory *> operands);

  CudaBackend &backend;
  const std::string arch;
  std::set<std::string> loaded;
};

} // namespace lathe::difftest

#endif // LATHE_TESTS_COMPILER_CUDA_CUDAWEIGHTPACKER_H
