#include "runtime/cuda/Buffer.h"

#include "absl/strings/str_cat.h"

namespace lathe::cuda {

static std::string mebibytes(uint64_t bytes) {
  return absl::StrCat((bytes + (1 << 20) - 1) >> 20, " MiB");
}

StatusOr<DeviceBuffer> DeviceBuffer::allocate(Context &context, size_t bytes) {
  DeviceBuffer buffer;
  if (bytes == 0)
    return buffer;
  LATHE_RETURN_IF_ERROR(context.enter());
  abi::CUdeviceptr address = 0;
  auto result = context.api().memAlloc(&address, bytes);
  if (result != abi::Success) {
    std::string detail =
        absl::StrCat(mebibytes(bytes), " on cuda:", context.device().ordinal);
    if (StatusOr<MemoryInfo> memory = context.memory(); memory.ok())
      absl::StrAppend(&detail, ", ", memory->freeBytes >> 20, " MiB free of ",
                      mebibytes(memory->totalBytes));
    return context.check(result, "cuMemAlloc", detail);
  }
  ++context.count().allocations;
  buffer.memory = Owned<abi::CUdeviceptr>(context, address);
  buffer.bytes = bytes;
  return buffer;
}

StatusOr<PinnedBuffer> PinnedBuffer::allocate(Context &context, size_t bytes) {
  PinnedBuffer buffer;
  if (bytes == 0)
    return buffer;
  LATHE_RETURN_IF_ERROR(context.enter());
  void *pointer = nullptr;
  auto result =
      context.api().memHostAlloc(&pointer, bytes, abi::kMemHostPortable);
  // The driver says "out of memory", but it is the host's.
  if (result == abi::OutOfMemory)
    return capacityError(absl::StrCat(
        "cuMemHostAlloc: the system cannot lock ", mebibytes(bytes),
        " of memory, free some or raise the limit (ulimit -l)"));
  LATHE_RETURN_IF_ERROR(
      context.check(result, "cuMemHostAlloc", mebibytes(bytes)));
  ++context.count().allocations;
  buffer.memory = Owned<void *>(context, pointer);
  buffer.bytes = bytes;
  return buffer;
}

} // namespace lathe::cuda
