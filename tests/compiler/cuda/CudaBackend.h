//===- CudaBackend.h - something that runs CUDA kernels ---------*- C++ -*-===//
//
// Compiles texts of CUDA kernels and launches them: on a GPU, or on a CPU with
// the emulator. Buffers are host memory to the caller in both cases.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_COMPILER_CUDA_CUDABACKEND_H
#define LATHE_TESTS_COMPILER_CUDA_CUDABACKEND_H

#include "runtime/base/CudaAbi.h"
#include "runtime/base/Status.h"
#include "tests/compiler/driver/GuardedMemory.h"

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lathe::difftest {

/// A text whose entries take a LatheLaunch and the same number of pointers, or
/// one whose entry is a persistent step.
struct CudaText {
  std::string name;
  std::string text;
  std::vector<std::string> entries; ///< replace those of the same name
  int operands = 0;
  bool step = false;
};

struct CudaCall {
  std::string entry;
  int gridX = 1, gridY = 1, threads = 32, sharedBytes = 0;
  int twins = 1; ///< see EmittedStage
};

/// What an entry is given. Everything comes back as the kernel left it, with
/// the guards.
struct CudaArguments {
  LatheStep step{};
  int capacity = 0;
  GuardedMemory scratch, counters;
  std::vector<GuardedMemory *> operands;
};

/// A launch inside a persistent step, a LatheStage: its operands are indices
/// into CudaArguments::operands.
struct CudaStepLaunch {
  int kernel = 0;
  std::vector<size_t> operands;
};

class CudaBackend {
public:
  virtual ~CudaBackend() = default;

  /// The architecture that texts are compiled for, given the one that a test
  /// would like; a GPU has its own.
  virtual std::string architecture(std::string_view wanted) const = 0;

  /// Compiles `texts` for architecture(`arch`).
  virtual Status load(std::span<const CudaText> texts,
                      std::string_view arch) = 0;

  /// Runs loaded entries, one after another, over the same arguments.
  virtual Status run(std::span<const CudaCall> calls,
                     CudaArguments &arguments) = 0;

  /// Runs a loaded persistent step, whose blocks wait for each other, over
  /// `launches`, which have so many stages.
  virtual Status runStep(const CudaCall &call,
                         std::span<const CudaStepLaunch> launches, int stages,
                         CudaArguments &arguments) = 0;
};

/// What this test binary was linked with, made once: the emulator
/// (EmulatedBackend.cpp) or the first GPU (GpuBackend.cpp), which may be
/// missing. Objects are kept in the folder `cache`.
StatusOr<CudaBackend *> theBackend(const std::string &cache);

} // namespace lathe::difftest

#endif // LATHE_TESTS_COMPILER_CUDA_CUDABACKEND_H
