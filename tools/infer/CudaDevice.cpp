#include "tools/infer/CudaDevice.h"

#include <cstdlib>

namespace lathe::cli {

StatusOr<std::shared_ptr<const cuda::Driver>> openDriver() {
  cuda::DriverOptions options;
  // Kernels are made by NVRTC 13, whose images older drivers refuse.
  options.minimumVersion = 13000;
  if (const char *library = std::getenv("LATHE_LIBCUDA"); library && *library)
    options.libraries = {library};
  return cuda::Driver::load(options);
}

StatusOr<std::unique_ptr<cuda::Context>> openDevice(const std::string &choice) {
  LATHE_ASSIGN_OR_RETURN(auto driver, openDriver());
  LATHE_ASSIGN_OR_RETURN(auto devices, driver->devices());
  LATHE_ASSIGN_OR_RETURN(cuda::DeviceInfo device,
                         cuda::selectDevice(devices, choice));
  return cuda::Context::create(driver, device.ordinal);
}

} // namespace lathe::cli
