// The input is a header; every data size that could suit it is tried.

#include "runtime/io/Safetensors.h"

#include <cstdint>
#include <cstdlib>

using namespace lathe;

static void check(std::span<const uint8_t> header, uint64_t dataSize) {
  auto parsed = parseSafetensorsHeader(header, dataSize, "fuzz.safetensors");
  if (!parsed.ok())
    return;
  uint64_t next = 0;
  for (const TensorInfo &info : parsed->tensors) {
    uint64_t elements = 1;
    for (int64_t d : info.shape)
      elements *= uint64_t(d);
    if (info.begin != next ||
        info.bytes() != elements * uint64_t(byteSize(info.dtype)))
      std::abort();
    next = info.end;
  }
  if (next != dataSize)
    std::abort();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2)
    return 0;
  uint64_t dataSize = uint64_t(data[0]) | uint64_t(data[1]) << 8;
  check({data + 2, size - 2}, dataSize);
  return 0;
}
