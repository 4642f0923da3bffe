//===- Driver.h - the CUDA driver, found at run time ------------*- C++ -*-===//
//
// libcuda is opened with dlopen, so the program builds and starts on machines
// without it. Nothing here creates a context, except memory().
//
// Errors of the whole folder: capacityError when this machine cannot run it
// (no driver, driver too old, no GPU, GPU busy, out of memory), modelError when
// a kernel image does not fit the GPU, usageError for a wrong device name,
// internalError for what the driver reports otherwise. Each names the driver's
// call, error name and text.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_CUDA_DRIVER_H
#define LATHE_RUNTIME_CUDA_DRIVER_H

#include "runtime/base/Status.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lathe::cuda {

struct DriverApi;

struct DriverOptions {
  /// File names or paths for dlopen, tried in order. Empty: the usual ones.
  std::vector<std::string> libraries;
  /// 1000 * major + 10 * minor of the CUDA version that the driver must
  /// support. 12.8 is the first that knows sm_120; images made by NVRTC 13
  /// need 13000.
  int minimumVersion = 12080;
};

/// One GPU. Constant while the process runs.
struct DeviceInfo {
  int ordinal = 0; ///< the N of "cuda:N", after CUDA_VISIBLE_DEVICES
  std::string name;
  std::string uuid; ///< "GPU-xxxxxxxx-...", as nvidia-smi prints it
  int major = 0;    ///< compute capability
  int minor = 0;
  int sms = 0;
  int64_t l2Bytes = 0;
  int memoryClockKhz = 0; ///< 0 when the driver does not tell
  int memoryBusBits = 0;
  int64_t totalBytes = 0;
  int sharedPerBlock = 0; ///< bytes, after opting in
  int sharedPerSm = 0;    ///< bytes
};

/// Device memory at one moment, over all processes.
struct MemoryInfo {
  int64_t freeBytes = 0;
  int64_t totalBytes = 0;
};

/// Immutable after load(), hence thread-safe. The library stays loaded until
/// the process ends: it does not survive being unloaded.
class Driver {
public:
  /// Opens and initialises the driver. Errors: capacityError that lists what
  /// was tried, or says which version was found and which is needed.
  static StatusOr<std::shared_ptr<const Driver>>
  load(const DriverOptions &options = {});

  ~Driver();
  Driver(const Driver &) = delete;
  Driver &operator=(const Driver &) = delete;

  /// As in DriverOptions::minimumVersion: 13000 is CUDA 13.0.
  int version() const { return cudaVersion; }
  /// What was opened.
  const std::string &library() const { return path; }

  /// All visible GPUs by ordinal; at least one.
  StatusOr<std::vector<DeviceInfo>> devices() const;

  /// Free and total memory. Makes the GPU's primary context for a moment when
  /// nobody else holds it, which takes a fraction of a second and some hundred
  /// MiB: for listings; whoever has a Context asks that.
  StatusOr<MemoryInfo> memory(int ordinal) const;

  /// For the other classes of this folder.
  const DriverApi &api() const { return *functions; }

private:
  Driver(std::unique_ptr<DriverApi> functions, std::string path, int version);

  std::unique_ptr<DriverApi> functions;
  std::string path;
  int cudaVersion;
};

/// "13.0" for 13000.
std::string cudaVersionText(int version);

/// The device that "cuda" (the first) or "cuda:N" names. Errors: usageError
/// that lists the devices; capacityError when there are none.
StatusOr<DeviceInfo> selectDevice(std::span<const DeviceInfo> devices,
                                  std::string_view choice);

} // namespace lathe::cuda

#endif // LATHE_RUNTIME_CUDA_DRIVER_H
