#include "runtime/memory/WeightStore.h"

#include "runtime/base/CudaPacking.h"
#include "runtime/memory/PackCpu.h"

#include <atomic>
#include <cstring>
#include <mutex>
#include <thread>

namespace lathe {

static int64_t elementsOf(const PlannedWeight &weight) {
  int64_t elements = 1;
  for (int64_t dim : weight.shape)
    elements *= dim;
  return elements;
}

int64_t residentBytes(const PlannedWeight &weight, std::string_view target) {
  const bool cpu = target == "cpu";
  int64_t bytes = 0;
  switch (weight.layout) {
  case Layout::Tiles:
    bytes = cpu ? packedBytes(weight.desc) : cudaPackedBytes(weight.desc);
    break;
  case Layout::Rows:
    bytes = weight.desc.byteSize();
    break;
  case Layout::Vector:
  case Layout::Transposed:
    // Kernels load whole vectors.
    bytes = elementsOf(weight) * 4 + 64;
    break;
  }
  const int64_t alignment = cpu ? 64 : 256;
  return (bytes + alignment - 1) / alignment * alignment;
}

static void transpose(const std::vector<float> &from, int64_t rows,
                      int64_t cols, float *to) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      to[c * rows + r] = from[size_t(r * cols + c)];
}

static Status loadTensor(const PlannedWeight &weight, WeightSource &source,
                         uint8_t *to) {
  LATHE_ASSIGN_OR_RETURN(std::vector<float> values,
                         source.tensor(weight.name, weight.shape));
  if (weight.layout == Layout::Transposed)
    transpose(values, weight.shape[0], weight.shape[1],
              reinterpret_cast<float *>(to));
  else
    std::memcpy(to, values.data(), values.size() * sizeof(float));
  return absl::OkStatus();
}

static Status loadOne(const PlannedWeight &weight, WeightSource &source,
                      uint8_t *to) {
  if (weight.layout == Layout::Vector || weight.layout == Layout::Transposed)
    return loadTensor(weight, source, to);
  LATHE_ASSIGN_OR_RETURN(HostWeight host,
                         source.weight(weight.name, weight.desc));
  if (!(host.desc == weight.desc))
    return internalError("the source changed the format of " + weight.name);
  if (weight.layout == Layout::Rows)
    std::memcpy(to, host.data.data(), host.data.size());
  else
    packRows(host, 0, tileCount(weight.desc), to);
  return absl::OkStatus();
}

StatusOr<WeightStore> WeightStore::load(const Plan &plan, WeightSource &source,
                                        int threads,
                                        const LoadProgress &progress) {
  WeightStore store;
  int64_t total = 0;
  for (const PlannedWeight &weight : plan.weights) {
    if (weight.layout == Layout::Tiles)
      LATHE_RETURN_IF_ERROR(annotate(checkPackable(weight.desc), weight.name));
    store.offsets.push_back(total);
    total += residentBytes(weight, plan.target);
  }
  LATHE_ASSIGN_OR_RETURN(store.buffer, AlignedBuffer::allocate(total));

  std::atomic<size_t> next{0};
  std::mutex mutex;
  Status status;
  int64_t done = 0;
  auto work = [&] {
    while (true) {
      size_t i = next.fetch_add(1);
      if (i >= plan.weights.size())
        return;
      Status one =
          loadOne(plan.weights[i], source, static_cast<uint8_t *>(store.at(i)));
      std::lock_guard<std::mutex> lock(mutex);
      if (!one.ok()) {
        if (status.ok())
          status = one;
        next = plan.weights.size();
        return;
      }
      done += residentBytes(plan.weights[i], plan.target);
      if (progress)
        progress(done, total);
    }
  };
  std::vector<std::thread> pool;
  for (int i = 1; i < threads; ++i)
    pool.emplace_back(work);
  work();
  for (std::thread &thread : pool)
    thread.join();
  LATHE_RETURN_IF_ERROR(status);
  return store;
}

} // namespace lathe
