#include "runtime/cuda/Driver.h"

#include "runtime/cuda/DriverApi.h"
#include "runtime/cuda/DriverError.h"

#include "absl/strings/str_cat.h"

#include <dlfcn.h>

#include <charconv>

namespace lathe::cuda {

namespace {

// WSL and NixOS keep the driver outside the loader's path.
constexpr const char *kUsualLibraries[] = {
    "libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1",
    "/run/opengl-driver/lib/libcuda.so.1"};

struct Library {
  void *handle;
  std::string path;
};

StatusOr<Library> openLibrary(std::vector<std::string> names) {
  if (names.empty())
    names.assign(std::begin(kUsualLibraries), std::end(kUsualLibraries));
  std::string tried;
  for (const std::string &name : names) {
    if (void *handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL))
      return Library{handle, name};
    const char *reason = ::dlerror();
    absl::StrAppend(&tried, tried.empty() ? "" : "; ",
                    reason ? reason : name.c_str());
  }
  return capacityError(absl::StrCat(
      "no CUDA driver (libcuda) on this machine, install NVIDIA's driver or "
      "run on the CPU; tried: ",
      tried));
}

/// Fills `api` and returns the first symbol that the library lacks, or null.
const char *resolve(void *handle, DriverApi &api) {
  const char *missing = nullptr;
#define LATHE_CUDA_SYMBOL(name, symbol, parameters)                            \
  api.name = reinterpret_cast<decltype(api.name)>(::dlsym(handle, #symbol));   \
  if (!api.name && !missing)                                                   \
    missing = #symbol;
#include "runtime/cuda/DriverSymbols.def"
  return missing;
}

std::string uuidText(const abi::CUuuid &uuid) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text = "GPU";
  for (int i = 0; i < 16; ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10)
      text += '-';
    text += digits[uuid.bytes[i] >> 4];
    text += digits[uuid.bytes[i] & 15];
  }
  return text;
}

std::string listOf(std::span<const DeviceInfo> devices) {
  std::string list;
  for (const DeviceInfo &device : devices)
    absl::StrAppend(&list, list.empty() ? "" : ", ", "cuda:", device.ordinal,
                    " (", device.name, ", compute capability ", device.major,
                    ".", device.minor, ", ", device.totalBytes >> 20, " MiB)");
  return list;
}

} // namespace

std::string cudaVersionText(int version) {
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

Driver::Driver(std::unique_ptr<DriverApi> functions, std::string path,
               int version)
    : functions(std::move(functions)), path(std::move(path)),
      cudaVersion(version) {}
Driver::~Driver() = default;

StatusOr<std::shared_ptr<const Driver>>
Driver::load(const DriverOptions &options) {
  LATHE_ASSIGN_OR_RETURN(Library library, openLibrary(options.libraries));
  auto api = std::make_unique<DriverApi>();
  const char *missing = resolve(library.handle, *api);
  if (!api->driverGetVersion)
    return capacityError(absl::StrCat(
        library.path, " is no CUDA driver: it has no cuDriverGetVersion"));
  int version = 0;
  if (auto result = api->driverGetVersion(&version); result != abi::Success)
    return driverError(*api, result, "cuDriverGetVersion", library.path);
  // The version first: an old driver lacks symbols too, and the version says
  // more.
  if (version < options.minimumVersion || missing) {
    std::string found =
        absl::StrCat("the NVIDIA driver (", library.path, ") supports CUDA ",
                     cudaVersionText(version));
    if (version < options.minimumVersion)
      return capacityError(absl::StrCat(
          found, ", CUDA ", cudaVersionText(options.minimumVersion),
          " or newer is needed, update the driver"));
    return capacityError(
        absl::StrCat(found, " but lacks ", missing, ", update the driver"));
  }
  if (auto result = api->init(0); result != abi::Success)
    return driverError(*api, result, "cuInit");
  return std::shared_ptr<const Driver>(
      new Driver(std::move(api), library.path, version));
}

static StatusOr<DeviceInfo> describeDevice(const DriverApi &api, int ordinal) {
  using enum abi::DeviceAttribute;
  DeviceInfo info;
  info.ordinal = ordinal;
  std::string detail = absl::StrCat("cuda:", ordinal);
  abi::CUdevice device;
  if (auto result = api.deviceGet(&device, ordinal); result != abi::Success)
    return driverError(api, result, "cuDeviceGet", detail);
  char name[256] = "";
  if (auto result = api.deviceGetName(name, sizeof name - 1, device);
      result != abi::Success)
    return driverError(api, result, "cuDeviceGetName", detail);
  info.name = name;
  abi::CUuuid uuid;
  if (auto result = api.deviceGetUuid(&uuid, device); result != abi::Success)
    return driverError(api, result, "cuDeviceGetUuid", detail);
  info.uuid = uuidText(uuid);
  size_t total = 0;
  if (auto result = api.deviceTotalMem(&total, device); result != abi::Success)
    return driverError(api, result, "cuDeviceTotalMem", detail);
  info.totalBytes = static_cast<int64_t>(total);

  int l2 = 0;
  const std::pair<abi::DeviceAttribute, int *> attributes[] = {
      {ComputeMajor, &info.major},
      {ComputeMinor, &info.minor},
      {SmCount, &info.sms},
      {L2Bytes, &l2},
      {MemoryClockKhz, &info.memoryClockKhz},
      {MemoryBusBits, &info.memoryBusBits},
      {SharedPerBlockOptIn, &info.sharedPerBlock},
      {SharedPerSm, &info.sharedPerSm}};
  for (auto [attribute, value] : attributes)
    if (auto result = api.deviceGetAttribute(value, attribute, device);
        result != abi::Success)
      return driverError(api, result, "cuDeviceGetAttribute", detail);
  info.l2Bytes = l2;
  return info;
}

StatusOr<std::vector<DeviceInfo>> Driver::devices() const {
  int count = 0;
  if (auto result = functions->deviceGetCount(&count); result != abi::Success)
    return driverError(*functions, result, "cuDeviceGetCount");
  // An empty CUDA_VISIBLE_DEVICES need not fail before.
  if (count == 0)
    return driverError(*functions, abi::NoDevice, "cuDeviceGetCount");
  std::vector<DeviceInfo> devices;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    LATHE_ASSIGN_OR_RETURN(DeviceInfo info,
                           describeDevice(*functions, ordinal));
    devices.push_back(std::move(info));
  }
  return devices;
}

StatusOr<MemoryInfo> Driver::memory(int ordinal) const {
  std::string detail = absl::StrCat("cuda:", ordinal);
  abi::CUdevice device;
  if (auto result = functions->deviceGet(&device, ordinal);
      result != abi::Success)
    return driverError(*functions, result, "cuDeviceGet", detail);
  abi::CUcontext before = nullptr, context = nullptr;
  functions->ctxGetCurrent(&before);
  if (auto result = functions->primaryCtxRetain(&context, device);
      result != abi::Success)
    return driverError(*functions, result, "cuDevicePrimaryCtxRetain", detail);
  size_t free = 0, total = 0;
  auto result = functions->ctxSetCurrent(context);
  if (result == abi::Success)
    result = functions->memGetInfo(&free, &total);
  functions->ctxSetCurrent(before);
  functions->primaryCtxRelease(device);
  if (result != abi::Success)
    return driverError(*functions, result, "cuMemGetInfo", detail);
  return MemoryInfo{static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

StatusOr<DeviceInfo> selectDevice(std::span<const DeviceInfo> devices,
                                  std::string_view choice) {
  if (devices.empty())
    return capacityError("no NVIDIA GPU is visible, see nvidia-smi and "
                         "CUDA_VISIBLE_DEVICES");
  if (choice == "cuda")
    return devices.front();
  constexpr std::string_view prefix = "cuda:";
  int ordinal = -1;
  if (choice.starts_with(prefix)) {
    const char *end = choice.data() + choice.size();
    auto parsed = std::from_chars(choice.data() + prefix.size(), end, ordinal);
    if (parsed.ec != std::errc() || parsed.ptr != end)
      ordinal = -1;
  }
  for (const DeviceInfo &device : devices)
    if (device.ordinal == ordinal)
      return device;
  return usageError(
      absl::StrCat(ordinal < 0 ? "a CUDA device is written cuda or cuda:N, not "
                               : "there is no device ",
                   std::string(choice), "; found: ", listOf(devices)));
}

} // namespace lathe::cuda
