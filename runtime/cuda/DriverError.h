//===- DriverError.h - a driver's error as a Status -------------*- C++ -*-===//

#ifndef LATHE_RUNTIME_CUDA_DRIVERERROR_H
#define LATHE_RUNTIME_CUDA_DRIVERERROR_H

#include "runtime/base/Status.h"
#include "runtime/cuda/DriverApi.h"

#include <string_view>

namespace lathe::cuda {

/// `result` of the driver function `call` as a Status: whose fault it is, the
/// driver's name and text for it and, when known, what to do. `detail` says
/// what the call was about and may be empty. Functions that `api` lacks are
/// done without. REQUIRES: result is not Success.
Status driverError(const DriverApi &api, abi::CUresult result,
                   std::string_view call, std::string_view detail = {});

} // namespace lathe::cuda

#endif // LATHE_RUNTIME_CUDA_DRIVERERROR_H
