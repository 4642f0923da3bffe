//===- CudaCompiler.h - kernel sources to cubins, cached --------*- C++ -*-===//
//
// The CUDA back end's last step: compiles a batch of sources on several threads
// through the object cache and checks what the assembler reports against the
// limits of the target.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_NVRTC_CUDACOMPILER_H
#define LATHE_COMPILER_NVRTC_CUDACOMPILER_H

#include "compiler/nvrtc/Nvrtc.h"
#include "runtime/base/CudaTarget.h"
#include "runtime/base/Status.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lathe {

class ObjectCache;

struct CudaCompilerStats {
  std::uint64_t compiled = 0;
  std::uint64_t cacheHits = 0;
  std::uint64_t spillingEntries = 0; ///< among all images returned
  double milliseconds = 0;           ///< wall time in compile()
  Status cacheError; ///< the first failure to store; the image was returned
};

/// Whether `entry` can be launched on `target` with `threads` threads and
/// `dynamicShared` bytes of dynamic shared memory per block: registers per
/// thread and per block, shared memory, threads. Errors: internalError that
/// names the entry, what it needs and the limit.
Status checkLaunch(const CudaTarget &target, const EntryResources &entry,
                   int threads, int dynamicShared);

/// Calls may be concurrent.
class CudaCompiler {
public:
  /// Compiles for `target` on up to `threads` threads, with `options` passed to
  /// NVRTC. `cache` may be null; it is not owned. Errors: usageError when this
  /// NVRTC does not know the target.
  static StatusOr<std::unique_ptr<CudaCompiler>>
  create(std::shared_ptr<const Nvrtc> nvrtc, CudaTarget target,
         ObjectCache *cache, int threads,
         std::vector<std::string> options = {});

  ~CudaCompiler();
  CudaCompiler(const CudaCompiler &) = delete;
  CudaCompiler &operator=(const CudaCompiler &) = delete;

  const CudaTarget &target() const;

  /// One image per source, in order; the sources can include
  /// device::cudaFiles(). Every entry keeps within the target's registers and
  /// static shared memory; dynamic memory is checkLaunch()'s. All or nothing:
  /// fails with the first source, in order, that does.
  StatusOr<std::vector<CompiledImage>>
  compile(std::span<const CudaSource> sources);

  CudaCompilerStats stats() const;

private:
  class Impl;
  explicit CudaCompiler(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

} // namespace lathe

#endif // LATHE_COMPILER_NVRTC_CUDACOMPILER_H
