// The fake driver's devices, contexts and memory.

#include "tests/runtime/cuda/FakeObjects.h"

#include <cstdlib>
#include <cstring>
#include <iterator>

namespace lathe::cuda::fake {

Driver &driver() {
  static Driver instance;
  return instance;
}

CUcontext &current() {
  static thread_local CUcontext context = nullptr;
  return context;
}

static bool liesIn(const std::map<CUdeviceptr, size_t> &memory,
                   CUdeviceptr address, size_t bytes) {
  auto after = memory.upper_bound(address);
  if (after == memory.begin())
    return false;
  auto [start, size] = *std::prev(after);
  return address - start + bytes <= size;
}

static bool covered(CUdeviceptr address, size_t bytes) {
  return liesIn(driver().memory, address, bytes);
}

/// Undefined memory holds something.
static void *poisoned(size_t bytes) {
  void *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(memory, 0xa5, bytes);
  return memory;
}

bool forbiddenNow() {
  bool capturing = false;
  for (CUstream stream : driver().streams)
    if (stream->capturing)
      capturing = stream->spoilt = true;
  return capturing;
}

CUresult submit(CUstream stream, std::function<void()> work) {
  if (!current())
    return kInvalidContext;
  if (stream->capturing)
    stream->captured.nodes.push_back(std::move(work));
  else if (driver().config.deferred)
    stream->queued.push_back(std::move(work));
  else
    work();
  return Success;
}

void drain(CUstream stream) {
  for (; !stream->queued.empty(); stream->queued.pop_front())
    stream->queued.front()();
}

void drainAll() {
  for (CUstream stream : driver().streams)
    drain(stream);
}

} // namespace lathe::cuda::fake

using namespace lathe::cuda::abi;
using namespace lathe::cuda::fake;

extern "C" {

Config *latheFakeConfig() { return &driver().config; }
State *latheFakeState() { return &driver().state; }
void latheFakeReset() {
  driver().config = {};
  driver().state = {};
}

CUresult cuDriverGetVersion(int *version) {
  *version = driver().config.version;
  return Success;
}
CUresult cuInit(unsigned) { return driver().config.initResult; }

CUresult cuGetErrorName(CUresult error, const char **text) {
  *text = error == OutOfMemory      ? "CUDA_ERROR_OUT_OF_MEMORY"
          : error == NoBinaryForGpu ? "CUDA_ERROR_NO_BINARY_FOR_GPU"
                                    : nullptr;
  return *text ? Success : InvalidValue;
}
CUresult cuGetErrorString(CUresult error, const char **text) {
  *text = error == OutOfMemory ? "out of memory" : nullptr;
  return *text ? Success : InvalidValue;
}

CUresult cuDeviceGetCount(int *count) {
  *count = driver().config.devices;
  return Success;
}
CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  if (ordinal < 0 || ordinal >= driver().config.devices)
    return InvalidDevice;
  *device = ordinal;
  return Success;
}
CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
  std::string text = "Fake GPU " + std::to_string(device);
  std::strncpy(name, text.c_str(), static_cast<size_t>(size));
  return Success;
}
CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
  for (int i = 0; i < 16; ++i)
    uuid->bytes[i] = static_cast<unsigned char>(16 * device + i);
  return Success;
}
CUresult cuDeviceGetAttribute(int *value, DeviceAttribute attribute, CUdevice) {
  switch (attribute) {
  case DeviceAttribute::SmCount:
    *value = 132;
    break;
  case DeviceAttribute::MemoryClockKhz:
    *value = 3201000;
    break;
  case DeviceAttribute::MemoryBusBits:
    *value = 6144;
    break;
  case DeviceAttribute::L2Bytes:
    *value = 60 << 20;
    break;
  case DeviceAttribute::ComputeMajor:
    *value = driver().config.major;
    break;
  case DeviceAttribute::ComputeMinor:
    *value = driver().config.minor;
    break;
  case DeviceAttribute::SharedPerSm:
    *value = 228 << 10;
    break;
  case DeviceAttribute::SharedPerBlockOptIn:
    *value = 227 << 10;
    break;
  }
  return Success;
}
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice) {
  *bytes = driver().config.totalBytes;
  return Success;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
  if (driver().config.retainResult != Success)
    return driver().config.retainResult;
  *context = &driver().context;
  ++driver().state.contexts;
  return Success;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) {
  --driver().state.contexts;
  return Success;
}
CUresult cuCtxSetCurrent(CUcontext context) {
  current() = context;
  return Success;
}
CUresult cuCtxGetCurrent(CUcontext *context) {
  *context = current();
  return Success;
}

CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
  if (!current())
    return kInvalidContext;
  *total = driver().config.totalBytes;
  *free = *total - driver().state.usedBytes;
  return Success;
}
CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
  auto &[config, state, context, memory, pinned, streams, clock] = driver();
  if (!current())
    return kInvalidContext;
  if (forbiddenNow())
    return CaptureUnsupported;
  ++state.allocations;
  if (config.failAllocation > 0 && --config.failAllocation == 0)
    return OutOfMemory;
  if (bytes > config.totalBytes - state.usedBytes)
    return OutOfMemory;
  *address = reinterpret_cast<CUdeviceptr>(poisoned(bytes));
  memory[*address] = bytes;
  state.usedBytes += bytes;
  ++state.buffers;
  return Success;
}
CUresult cuMemFree_v2(CUdeviceptr address) {
  auto found = driver().memory.find(address);
  if (!current() || found == driver().memory.end())
    return InvalidValue;
  drainAll();
  driver().state.usedBytes -= found->second;
  driver().memory.erase(found);
  std::free(pointer(address));
  --driver().state.buffers;
  return Success;
}
CUresult cuMemHostAlloc(void **result, size_t bytes, unsigned) {
  if (!current())
    return kInvalidContext;
  auto &[config, state, context, memory, pinned, streams, clock] = driver();
  ++state.allocations;
  if (config.failAllocation > 0 && --config.failAllocation == 0)
    return OutOfMemory;
  *result = std::malloc(bytes);
  pinned[reinterpret_cast<CUdeviceptr>(*result)] = bytes;
  ++state.pinned;
  return Success;
}
CUresult cuMemFreeHost(void *memory) {
  drainAll();
  driver().pinned.erase(reinterpret_cast<CUdeviceptr>(memory));
  std::free(memory);
  --driver().state.pinned;
  return Success;
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes,
                              CUstream stream) {
  if (!covered(to, bytes))
    return InvalidValue;
  if (liesIn(driver().pinned, reinterpret_cast<CUdeviceptr>(from), bytes))
    return submit(stream, [=] { std::memcpy(pointer(to), from, bytes); });
  // Staged before the call returns.
  std::string staged(static_cast<const char *>(from), bytes);
  return submit(stream,
                [=] { std::memcpy(pointer(to), staged.data(), bytes); });
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes,
                              CUstream stream) {
  if (!covered(from, bytes))
    return InvalidValue;
  return submit(stream, [=] { std::memcpy(to, pointer(from), bytes); });
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes,
                              CUstream stream) {
  if (!covered(to, bytes) || !covered(from, bytes))
    return InvalidValue;
  return submit(stream,
                [=] { std::memmove(pointer(to), pointer(from), bytes); });
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes,
                         CUstream stream) {
  if (!covered(to, bytes))
    return InvalidValue;
  return submit(stream, [=] { std::memset(pointer(to), value, bytes); });
}

} // extern "C"
