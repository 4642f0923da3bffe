//===- KernelCompiler.h - kernel sources to callable functions --*- C++ -*-===//
//
// The CPU back end's last step: compiles a batch of kernels on several threads
// through the object cache, links them into the process and returns their
// entry points. When the cache has them all, clang is never started.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_JIT_KERNELCOMPILER_H
#define LATHE_COMPILER_JIT_KERNELCOMPILER_H

#include "compiler/jit/CpuTarget.h"
#include "runtime/base/KernelAbi.h"
#include "runtime/base/Status.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace lathe {

class ObjectCache;

/// One translation unit. It includes the device headers that it needs by path
/// ("compiler/device/cpu/prelude.h") and defines one extern "C" function of
/// type LatheKernel.
struct KernelSource {
  std::string name; ///< the function; also names the source in diagnostics
  std::string text;
};

struct KernelCompilerStats {
  std::uint64_t compiled = 0;
  std::uint64_t cacheHits = 0;
  double milliseconds = 0; ///< wall time in compile() and compileObjects()
  Status cacheError;       ///< the first failure to store; the kernel still ran
};

/// Owns the code: the functions die with it. Calls may be concurrent.
class KernelCompiler {
public:
  using Kernels = std::unordered_map<std::string, LatheKernel>;

  /// Compiles for `target` on up to `threads` threads. `cache` may be null;
  /// it is not owned.
  static StatusOr<std::unique_ptr<KernelCompiler>>
  create(CpuTarget target, ObjectCache *cache, int threads);

  ~KernelCompiler();
  KernelCompiler(const KernelCompiler &) = delete;
  KernelCompiler &operator=(const KernelCompiler &) = delete;

  /// Compiles, links, and returns every source's entry point by name. The
  /// names of a batch differ; two batches may use the same name. All or
  /// nothing: fails with the first source, in order, that does.
  StatusOr<Kernels> compile(std::span<const KernelSource> sources);

  /// Compiles without linking: the object bytes, one per source, in order.
  StatusOr<std::vector<std::string>>
  compileObjects(std::span<const KernelSource> sources);

  KernelCompilerStats stats() const;

private:
  class Impl;
  explicit KernelCompiler(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

} // namespace lathe

#endif // LATHE_COMPILER_JIT_KERNELCOMPILER_H
