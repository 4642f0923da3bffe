//===- Module.h - kernels on the GPU ----------------------------*- C++ -*-===//
//
// A cubin loaded into a context, and its entry points.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_CUDA_MODULE_H
#define LATHE_RUNTIME_CUDA_MODULE_H

#include "runtime/cuda/Context.h"
#include "runtime/cuda/Owned.h"

#include <string>
#include <string_view>

namespace lathe::cuda {

/// An entry point. Refers to its Module, which must outlive it.
struct Function {
  abi::CUfunction handle = nullptr;
  std::string name;
  int registers = 0;    ///< per thread
  int localBytes = 0;   ///< stack and spills, per thread
  int staticShared = 0; ///< bytes per block
  int maxThreads = 0;   ///< per block, given the registers
};

/// Movable; the code leaves the GPU with it.
class Module {
public:
  Module() = default;

  /// Copies the cubin `image` to the GPU; `name` is for messages only. Errors:
  /// modelError when the image is damaged or for another architecture.
  static StatusOr<Module> load(Context &context, std::string_view image,
                               std::string_view name);

  /// Entry `entry`, allowed to be launched with up to `maxDynamicShared` bytes
  /// of dynamic shared memory. Errors: modelError when the image has no such
  /// entry, or static and dynamic memory exceed what the GPU has.
  StatusOr<Function> function(const std::string &entry,
                              int maxDynamicShared = 0) const;

private:
  Owned<abi::CUmodule> module;
  std::string label;
};

} // namespace lathe::cuda

#endif // LATHE_RUNTIME_CUDA_MODULE_H
