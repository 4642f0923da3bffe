#include "runtime/cuda/Module.h"

#include "absl/strings/str_cat.h"

#include <cstring>

namespace lathe::cuda {

template <class T> static T readAt(std::string_view bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

/// Whether a table of an ELF header, given where the header holds the table's
/// offset, entry size and count, lies within the image.
static bool tableFits(std::string_view image, size_t offsetAt, size_t sizeAt,
                      size_t countAt) {
  auto offset = readAt<uint64_t>(image, offsetAt);
  uint64_t bytes = uint64_t(readAt<uint16_t>(image, sizeAt)) *
                   readAt<uint16_t>(image, countAt);
  return offset <= image.size() && bytes <= image.size() - offset;
}

/// The driver takes an image without its size and would read beyond the end of
/// a truncated one; the tables of a cubin lie at its end.
static bool isCubin(std::string_view image) {
  constexpr size_t headerBytes = 64;
  constexpr uint16_t machineCuda = 190;
  return image.size() >= headerBytes &&
         image.starts_with("\x7f"
                           "ELF\x02") &&
         readAt<uint16_t>(image, 0x12) == machineCuda &&
         tableFits(image, 0x20, 0x36, 0x38) &&
         tableFits(image, 0x28, 0x3a, 0x3c);
}

StatusOr<Module> Module::load(Context &context, std::string_view image,
                              std::string_view name) {
  if (!isCubin(image))
    return modelError(absl::StrCat("kernel image ", std::string(name),
                                   " is no complete cubin (", image.size(),
                                   " bytes), compile the kernels again"));
  LATHE_RETURN_IF_ERROR(context.enter());
  Module module;
  module.label = name;
  abi::CUmodule handle = nullptr;
  auto result = context.api().moduleLoadData(&handle, image.data());
  if (result != abi::Success) {
    const DeviceInfo &device = context.device();
    return context.check(
        result, "cuModuleLoadData",
        absl::StrCat(module.label, " on ", device.name, ", compute capability ",
                     device.major, ".", device.minor, ", driver for CUDA ",
                     cudaVersionText(context.driver().version())));
  }
  module.module = Owned<abi::CUmodule>(context, handle);
  return module;
}

StatusOr<Function> Module::function(const std::string &entry,
                                    int maxDynamicShared) const {
  using enum abi::FunctionAttribute;
  const Context &context = module.owner();
  const DriverApi &api = context.api();
  LATHE_RETURN_IF_ERROR(context.enter());
  std::string detail = absl::StrCat(entry, " in ", label);
  Function function;
  function.name = entry;
  LATHE_RETURN_IF_ERROR(context.check(
      api.moduleGetFunction(&function.handle, module.get(), entry.c_str()),
      "cuModuleGetFunction", detail));
  const std::pair<abi::FunctionAttribute, int *> attributes[] = {
      {Registers, &function.registers},
      {LocalBytes, &function.localBytes},
      {StaticSharedBytes, &function.staticShared},
      {MaxThreadsPerBlock, &function.maxThreads}};
  for (auto [attribute, value] : attributes)
    LATHE_RETURN_IF_ERROR(
        context.check(api.funcGetAttribute(value, attribute, function.handle),
                      "cuFuncGetAttribute", detail));
  int limit = context.device().sharedPerBlock;
  if (maxDynamicShared > limit - function.staticShared)
    return modelError(absl::StrCat(
        "kernel ", detail, " needs ", function.staticShared, " + ",
        maxDynamicShared, " bytes of shared memory, ", context.device().name,
        " has ", limit, ", compile the kernels for this GPU"));
  if (maxDynamicShared > 0)
    LATHE_RETURN_IF_ERROR(context.check(
        api.funcSetAttribute(function.handle, MaxDynamicSharedBytes,
                             maxDynamicShared),
        "cuFuncSetAttribute", detail));
  return function;
}

} // namespace lathe::cuda
