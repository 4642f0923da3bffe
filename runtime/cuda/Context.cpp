#include "runtime/cuda/Context.h"

#include "runtime/cuda/DriverError.h"

#include "absl/strings/str_cat.h"

namespace lathe::cuda {

Context::Context(std::shared_ptr<const Driver> driver, DeviceInfo device,
                 abi::CUdevice handle, abi::CUcontext context)
    : owner(std::move(driver)), info(std::move(device)), handle(handle),
      context(context) {}

StatusOr<std::unique_ptr<Context>>
Context::create(std::shared_ptr<const Driver> driver, int ordinal) {
  LATHE_ASSIGN_OR_RETURN(std::vector<DeviceInfo> devices, driver->devices());
  std::string choice = absl::StrCat("cuda:", ordinal);
  LATHE_ASSIGN_OR_RETURN(DeviceInfo info, selectDevice(devices, choice));
  const DriverApi &api = driver->api();
  abi::CUdevice device;
  if (auto result = api.deviceGet(&device, ordinal); result != abi::Success)
    return driverError(api, result, "cuDeviceGet", choice);
  abi::CUcontext context = nullptr;
  if (auto result = api.primaryCtxRetain(&context, device);
      result != abi::Success)
    return driverError(api, result, "cuDevicePrimaryCtxRetain",
                       absl::StrCat(choice, ", ", info.name));
  return std::unique_ptr<Context>(
      new Context(std::move(driver), std::move(info), device, context));
}

Context::~Context() {
  // No thread should be left with a context that may cease to exist; of this
  // one that can be said.
  abi::CUcontext current = nullptr;
  if (api().ctxGetCurrent(&current) == abi::Success && current == context)
    api().ctxSetCurrent(nullptr);
  api().primaryCtxRelease(handle);
}

Status Context::check(abi::CUresult result, std::string_view call,
                      std::string_view detail) const {
  if (result == abi::Success)
    return absl::OkStatus();
  return driverError(api(), result, call, detail);
}

Status Context::enter() const {
  return check(api().ctxSetCurrent(context), "cuCtxSetCurrent");
}

StatusOr<MemoryInfo> Context::memory() const {
  LATHE_RETURN_IF_ERROR(enter());
  size_t free = 0, total = 0;
  LATHE_RETURN_IF_ERROR(check(api().memGetInfo(&free, &total), "cuMemGetInfo"));
  return MemoryInfo{static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

void Context::release(abi::CUdeviceptr buffer) {
  api().ctxSetCurrent(context);
  api().memFree(buffer);
  ++totals.frees;
}

void Context::release(void *pinned) {
  api().ctxSetCurrent(context);
  api().memFreeHost(pinned);
  ++totals.frees;
}

void Context::release(abi::CUstream stream) {
  api().ctxSetCurrent(context);
  api().streamDestroy(stream);
}

void Context::release(abi::CUevent event) {
  api().ctxSetCurrent(context);
  api().eventDestroy(event);
}

void Context::release(abi::CUmodule module) {
  api().ctxSetCurrent(context);
  api().moduleUnload(module);
}

void Context::release(abi::CUgraphExec graph) {
  api().ctxSetCurrent(context);
  api().graphExecDestroy(graph);
}

namespace {

struct Counter {
  uint64_t Counters::*value;
  std::atomic<uint64_t> Context::AtomicCounters::*total;
};

using Totals = Context::AtomicCounters;
constexpr Counter kCounters[] = {
    {&Counters::allocations, &Totals::allocations},
    {&Counters::frees, &Totals::frees},
    {&Counters::launches, &Totals::launches},
    {&Counters::graphInstantiations, &Totals::graphInstantiations},
    {&Counters::graphLaunches, &Totals::graphLaunches},
    {&Counters::synchronizations, &Totals::synchronizations},
    {&Counters::hostToDeviceCopies, &Totals::hostToDeviceCopies},
    {&Counters::deviceToHostCopies, &Totals::deviceToHostCopies},
    {&Counters::hostToDeviceBytes, &Totals::hostToDeviceBytes},
    {&Counters::deviceToHostBytes, &Totals::deviceToHostBytes},
};

} // namespace

Counters Context::counters() const {
  Counters values;
  for (const Counter &counter : kCounters)
    values.*counter.value = totals.*counter.total;
  return values;
}

void Context::resetCounters() {
  for (const Counter &counter : kCounters)
    totals.*counter.total = 0;
}

} // namespace lathe::cuda
