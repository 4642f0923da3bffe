//===- DeviceFiles.h - the embedded device sources --------------*- C++ -*-===//
//
// The device headers, embedded at build time, so that the compilers read them
// from memory and an installed binary needs no source tree. Everything here is
// constant and safe to use from any thread.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_DEVICEFILES_H
#define LATHE_COMPILER_DEVICE_DEVICEFILES_H

#include <span>
#include <string_view>

namespace lathe::device {

/// One embedded file. `path` is what a kernel writes in its #include, for
/// example "compiler/device/cpu/prelude.h"; `text` ends with a null byte.
struct File {
  std::string_view path;
  std::string_view text;
};

/// What a CPU kernel can include: runtime/base/KernelAbi.h and every header of
/// compiler/device/cpu.
std::span<const File> cpuFiles();

/// SHA-256, in hexadecimal, of the paths and texts of cpuFiles().
std::string_view cpuFilesHash();

/// What a CUDA kernel can include: the headers of compiler/device/cuda and
/// those of runtime/base that they share with the host; and the sources with
/// entries of their own (*.cu).
std::span<const File> cudaFiles();
std::string_view cudaFilesHash();

} // namespace lathe::device

#endif // LATHE_COMPILER_DEVICE_DEVICEFILES_H
