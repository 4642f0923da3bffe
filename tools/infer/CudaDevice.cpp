#include "tools/infer/CudaDevice.h"

#include "tools/infer/Host.h"

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

std::vector<std::string> nvrtcFolders() {
  std::vector<std::string> folders;
  for (const char *name : {"LATHE_NVRTC", "CUDA_HOME", "CUDA_PATH"})
    if (const char *value = std::getenv(name); value && *value)
      folders.emplace_back(value);
  if (std::string data = dataDirectory(); !data.empty())
    folders.push_back(data + "/nvrtc");
  return folders;
}

} // namespace lathe::cli
