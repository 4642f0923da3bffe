//===- Nvrtc.h - CUDA C++ to cubins, in the process -------------*- C++ -*-===//
//
// NVIDIA's run-time compiler, opened with dlopen: the user's copy is used, none
// is shipped, and a program that only runs bundles does without. It needs no
// GPU and no driver.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_NVRTC_NVRTC_H
#define LATHE_COMPILER_NVRTC_NVRTC_H

#include "compiler/device/DeviceFiles.h"
#include "compiler/nvrtc/PtxasLog.h"
#include "runtime/base/Status.h"

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

struct NvrtcOptions {
  /// Files (".../libnvrtc.so.13") or folders that may hold one or have it in
  /// lib64, targets/x86_64-linux/lib or lib; tried first, in order. The caller
  /// puts $CUDA_HOME and $CUDA_PATH here.
  std::vector<std::string> candidates;
  /// Then the loader's own search for libnvrtc.so.13 and .12, and
  /// /usr/local/cuda*; off in tests.
  bool searchSystem = true;
};

/// One translation unit. It includes the device headers by path
/// ("compiler/device/cuda/prelude.cuh"); its kernels are extern "C".
struct CudaSource {
  std::string name; ///< names the source in diagnostics
  std::string text;
};

struct CompiledImage {
  std::string cubin;
  std::vector<EntryResources> resources; ///< one per kernel
  std::string log; ///< warnings; empty when there are none

  /// The resources of kernel `entry`; null when there is none.
  const EntryResources *find(std::string_view entry) const;
};

/// Immutable after load(). Several threads may compile at once: NVRTC runs its
/// optimiser and assembler in parallel, its front end one at a time.
class Nvrtc {
public:
  /// Opens the first library found, together with its builtins library, which
  /// NVRTC would otherwise look for by bare name. Errors: capacityError that
  /// lists every path tried.
  static StatusOr<std::shared_ptr<const Nvrtc>>
  load(const NvrtcOptions &options = {});

  ~Nvrtc();
  Nvrtc(const Nvrtc &) = delete;
  Nvrtc &operator=(const Nvrtc &) = delete;

  /// "13.0".
  std::string version() const;
  int major() const;
  int minor() const;
  /// The path of what was opened.
  const std::string &library() const;
  /// What decides, with a source and its options, the bytes of a cubin: a part
  /// of cache keys.
  std::string fingerprint() const;

  /// Whether this NVRTC makes code for `arch` ("sm_90", "sm_120f").
  bool supports(std::string_view arch) const;

  /// Compiles `source` for `arch`. `headers` are what it can include, by path;
  /// `options` go to NVRTC after "-arch=", "-std=c++20", "-default-device"
  /// and
  /// "--ptxas-options=-v". The same input gives the same bytes. Errors:
  /// usageError for an architecture that this version does not know, else
  /// internalError with the compiler's log.
  StatusOr<CompiledImage> compile(const CudaSource &source,
                                  std::string_view arch,
                                  std::span<const device::File> headers,
                                  std::span<const std::string> options) const;

private:
  class Impl;
  explicit Nvrtc(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

} // namespace lathe

#endif // LATHE_COMPILER_NVRTC_NVRTC_H
