//===- EmulatorText.h - CUDA texts for a CPU compiler -----------*- C++ -*-===//

#ifndef LATHE_TESTS_COMPILER_CUDA_EMULATORTEXT_H
#define LATHE_TESTS_COMPILER_CUDA_EMULATORTEXT_H

#include "tests/compiler/cuda/CudaBackend.h"

#include <string>

namespace lathe::difftest {

/// `source` as one C++ text without an #include: those of device::cudaFiles()
/// are pasted in, the emulator's intrinsics instead of CUDA's, with what GPUs
/// of `arch` have. Behind it a `call_<entry>(const LatheLaunch *, void *const
/// *)` for each entry.
std::string emulatorText(const CudaText &source, std::string_view arch);

} // namespace lathe::difftest

#endif // LATHE_TESTS_COMPILER_CUDA_EMULATORTEXT_H
