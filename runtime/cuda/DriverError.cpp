#include "runtime/cuda/DriverError.h"

#include "absl/strings/str_cat.h"

#include <string>

namespace lathe::cuda {

namespace {

using MakeStatus = Status (*)(std::string_view);

struct Advice {
  abi::CUresult result;
  MakeStatus fault;
  const char *whatToDo;
};

constexpr const char *kContextLost =
    "a kernel failed and the GPU context is lost, start again";
constexpr const char *kWrongImage =
    "the kernels are damaged or made for another GPU or a newer driver, "
    "compile them again for this GPU or update the NVIDIA driver";

// What is not listed is internalError without advice.
constexpr Advice kAdvice[] = {
    {abi::OutOfMemory, capacityError,
     "close other programs that use the GPU, or use a smaller context or "
     "model"},
    {abi::StubLibrary, capacityError,
     "the library is the CUDA toolkit's stub, take its folder out of "
     "LD_LIBRARY_PATH and install the NVIDIA driver"},
    {abi::DeviceUnavailable, capacityError,
     "another process holds the GPU exclusively, see nvidia-smi"},
    {abi::NoDevice, capacityError,
     "no NVIDIA GPU is visible, see nvidia-smi and CUDA_VISIBLE_DEVICES"},
    {abi::InvalidDevice, usageError, "there is no such GPU, see nvidia-smi"},
    {abi::InvalidImage, modelError, kWrongImage},
    {abi::NoBinaryForGpu, modelError, kWrongImage},
    {abi::InvalidPtx, modelError, kWrongImage},
    {abi::UnsupportedPtxVersion, modelError, kWrongImage},
    {abi::InvalidSource, modelError, kWrongImage},
    {abi::NotFound, modelError,
     "the image lacks this entry, compile the kernels again"},
    {abi::EccUncorrectable, internalError,
     "the GPU's memory is failing, see nvidia-smi -q"},
    {abi::OperatingSystem, internalError,
     "the system refused, see dmesg and the limits of locked memory"},
    {abi::IllegalAddress, internalError, kContextLost},
    {abi::Assert, internalError, kContextLost},
    {abi::IllegalInstruction, internalError, kContextLost},
    {abi::MisalignedAddress, internalError, kContextLost},
    {abi::LaunchFailed, internalError, kContextLost},
    {abi::LaunchOutOfResources, internalError,
     "the kernel needs more threads, registers or shared memory than a block "
     "can have"},
    {abi::LaunchTimeout, internalError,
     "the display's watchdog stopped the kernel, use a GPU without a display"},
    {abi::SystemNotReady, capacityError,
     "the machine is not ready for CUDA, is the fabric manager running?"},
    {abi::SystemDriverMismatch, capacityError,
     "libcuda and the kernel module differ in version, reboot"},
    {abi::CompatNotSupported, capacityError,
     "the CUDA compatibility library does not support this GPU, take it out "
     "of LD_LIBRARY_PATH"},
    {abi::CaptureUnsupported, internalError,
     "the call is not allowed while a graph is being captured"},
};

using Describe = abi::CUresult (*)(abi::CUresult, const char **);

std::string describe(Describe function, abi::CUresult result) {
  const char *text = nullptr;
  if (function && function(result, &text) == abi::Success && text)
    return text;
  return {};
}

} // namespace

Status driverError(const DriverApi &api, abi::CUresult result,
                   std::string_view call, std::string_view detail) {
  std::string name = describe(api.getErrorName, result);
  std::string text = describe(api.getErrorString, result);
  std::string message(call);
  if (!detail.empty())
    message.append(" (").append(detail).append(")");
  absl::StrAppend(&message, " failed: ",
                  name.empty() ? absl::StrCat("CUDA error ", int(result))
                               : name);
  if (!text.empty())
    absl::StrAppend(&message, " (", text, ")");
  for (const Advice &advice : kAdvice)
    if (advice.result == result)
      return advice.fault(absl::StrCat(message, ": ", advice.whatToDo));
  return internalError(message);
}

} // namespace lathe::cuda
