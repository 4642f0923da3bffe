//===- CudaDevice.h - the GPU that a verb runs on ---------------*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_CUDADEVICE_H
#define LATHE_TOOLS_INFER_CUDADEVICE_H

#include "runtime/base/CudaTarget.h"
#include "runtime/cuda/Context.h"

#include <memory>
#include <string>

namespace lathe::cli {

/// Opens the driver; LATHE_LIBCUDA in the environment names another library.
StatusOr<std::shared_ptr<const cuda::Driver>> openDriver();

/// The device that "cuda" or "cuda:N" names.
StatusOr<std::unique_ptr<cuda::Context>> openDevice(const std::string &choice);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_CUDADEVICE_H
