#include "runtime/engine/CudaLoader.h"

#include "runtime/base/CudaPacking.h"
#include "runtime/engine/OrderedReader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

namespace lathe {

using cuda::DeviceAddress;

static constexpr unsigned kThreads = 256, kBlocks = 1024;

template <class T> static T *pointer(DeviceAddress address) {
  return reinterpret_cast<T *>(address);
}

StatusOr<CudaLoader> CudaLoader::create(cuda::Stream &stream,
                                        const cuda::Module &runtime,
                                        const CudaMemory &memory,
                                        DeviceAddress base) {
  CudaLoader loader(stream, memory, base);
  LATHE_ASSIGN_OR_RETURN(loader.packFunction, runtime.function("pack"));
  LATHE_ASSIGN_OR_RETURN(loader.fillFunction, runtime.function("fill"));
  LATHE_ASSIGN_OR_RETURN(loader.fillFloats, runtime.function("fill_floats"));
  LATHE_ASSIGN_OR_RETURN(loader.fillBf16, runtime.function("fill_bf16"));
  for (cuda::Event &event : loader.stageDone) {
    LATHE_ASSIGN_OR_RETURN(event, cuda::Event::create(stream.context()));
  }
  return loader;
}

Status CudaLoader::nextStage() {
  LATHE_RETURN_IF_ERROR(stageDone[stage].record(stream));
  stage ^= 1;
  return stageDone[stage].synchronize();
}

/// Plain bytes, through the pinned buffer.
Status CudaLoader::copy(const void *from, size_t bytes, DeviceAddress to) {
  for (size_t at = 0; at < bytes; at += kUploadBytes) {
    size_t count = std::min(bytes - at, size_t(kUploadBytes));
    LATHE_RETURN_IF_ERROR(nextStage());
    std::byte *through = pinned.data() + stage * kUploadBytes;
    std::memcpy(through, static_cast<const std::byte *>(from) + at, count);
    LATHE_RETURN_IF_ERROR(stream.copyToDevice(to + at, through, count));
  }
  return absl::OkStatus();
}

Status CudaLoader::launchPack(const cuda::Function &function, LathePack pack) {
  void *arguments[] = {&pack};
  return stream.launch(function, {.gridX = kBlocks, .threads = kThreads},
                       arguments);
}

/// What a packed weight's operand has in common for all its pieces.
static LathePack packOf(const WeightDesc &desc) {
  const CudaPacking packing = cudaPacking(desc);
  LathePack pack{};
  pack.format = int(packing.format);
  pack.grain = packing.grain;
  pack.asymmetric = packing.asymmetric;
  pack.source = desc.format == WeightFormat::F32   ? LATHE_PACK_F32
                : desc.format == WeightFormat::F16 ? LATHE_PACK_F16
                                                   : LATHE_PACK_BF16;
  pack.columns = int(desc.cols);
  pack.group = std::max(desc.group, 1);
  return pack;
}

Status CudaLoader::sendPiece(const PlannedWeight &weight,
                             const HostWeight &host, int64_t firstRow,
                             int64_t rows, DeviceAddress to) {
  const WeightDesc &desc = weight.desc;
  LATHE_RETURN_IF_ERROR(nextStage());
  std::byte *through = pinned.data() + stage * kUploadBytes;
  const DeviceAddress staged = base + memory.upload + stage * kUploadBytes;
  int64_t used = 0;
  // The rows' share of an array, sent along; where it will be.
  auto add = [&](const auto &array) {
    const size_t elements = array.size() / size_t(desc.rows) * size_t(rows);
    const size_t bytes = elements * sizeof(array[0]);
    if (bytes > 0)
      std::memcpy(through + used,
                  array.data() +
                      array.size() / size_t(desc.rows) * size_t(firstRow),
                  bytes);
    const DeviceAddress at = staged + used;
    used += int64_t(bytes + 255) / 256 * 256;
    return at;
  };
  LathePack pack = packOf(desc);
  pack.rows = int(rows);
  pack.data = pointer<unsigned char>(add(host.data));
  pack.scales = pointer<unsigned short>(add(host.scales));
  pack.zeros = pointer<unsigned char>(add(host.zeros));
  pack.blockScales = pointer<unsigned char>(add(host.blockScales));
  const CudaPacking packing = cudaPacking(desc);
  pack.packed = pointer<void>(to + kCudaWeightHeader +
                              firstRow / 16 * packing.units(pack.columns) *
                                  int64_t(packing.unitBytes()));
  LATHE_RETURN_IF_ERROR(stream.copyToDevice(staged, through, size_t(used)));
  return launchPack(packFunction, pack);
}

Status CudaLoader::sendHeader(float globalScale, DeviceAddress to) {
  float header[kCudaWeightHeader / sizeof(float)] = {globalScale};
  return copy(header, sizeof header, to);
}

Status CudaLoader::loadWeight(const PlannedWeight &weight,
                              const HostWeight &host, DeviceAddress to) {
  if (!(host.desc == weight.desc))
    return internalError("the source changed the format of " + weight.name);
  if (weight.layout == Layout::Rows)
    return copy(host.data.data(), host.data.size(), to);
  const float scale =
      weight.desc.format == WeightFormat::NvFp4 ? host.globalScale : 1.0f;
  LATHE_RETURN_IF_ERROR(sendHeader(scale, to));
  const int64_t rowBytes =
      (weight.desc.byteSize() + weight.desc.rows - 1) / weight.desc.rows;
  // The padding of four arrays has room beside the rows.
  const int64_t most = (kUploadBytes - 2048) / rowBytes / 16 * 16;
  if (most == 0)
    return internalError(weight.name + ": a row tile is larger than a piece");
  for (int64_t row = 0; row < weight.desc.rows; row += most)
    LATHE_RETURN_IF_ERROR(sendPiece(
        weight, host, row, std::min(most, weight.desc.rows - row), to));
  return absl::OkStatus();
}

Status CudaLoader::load(const Plan &plan, WeightSource &source, int threads,
                        const LoadProgress &progress) {
  LATHE_ASSIGN_OR_RETURN(
      pinned, cuda::PinnedBuffer::allocate(stream.context(), 2 * kUploadBytes));
  OrderedReader reader(plan, source, threads);
  int64_t done = 0;
  for (size_t i = 0; i < plan.weights.size(); ++i) {
    LATHE_ASSIGN_OR_RETURN(HostParameter parameter, reader.next());
    const PlannedWeight &weight = plan.weights[i];
    const DeviceAddress to = base + memory.weights[i];
    if (!parameter.floats.empty())
      LATHE_RETURN_IF_ERROR(copy(parameter.floats.data(),
                                 parameter.floats.size() * sizeof(float), to));
    else
      LATHE_RETURN_IF_ERROR(loadWeight(weight, parameter.weight, to));
    done += residentBytes(weight, plan.target);
    if (progress)
      progress(done, memory.weightBytes);
  }
  return stream.synchronize();
}

Status CudaLoader::fillWeight(const PlannedWeight &weight, DeviceAddress to) {
  unsigned long long seed = std::hash<std::string>{}(weight.name);
  if (weight.layout == Layout::Vector || weight.layout == Layout::Transposed) {
    long long count = 1;
    for (int64_t dim : weight.shape)
      count *= dim;
    float scale = 0.1f;
    void *arguments[] = {&to, &count, &scale, &seed};
    return stream.launch(fillFloats, {.gridX = 64, .threads = kThreads},
                         arguments);
  }
  // Rows of unit length on average, as SyntheticWeights.h makes them.
  float scale = std::sqrt(3.0f / float(weight.desc.cols));
  if (weight.layout == Layout::Rows) {
    if (weight.desc.format != WeightFormat::BF16)
      return usageError(weight.name +
                        ": synthetic tables are bf16, or quantised");
    long long words = weight.desc.rows * weight.desc.cols / 2;
    void *arguments[] = {&to, &words, &scale, &seed};
    return stream.launch(fillBf16, {.gridX = kBlocks, .threads = kThreads},
                         arguments);
  }
  const bool fp4 = weight.desc.format == WeightFormat::NvFp4;
  LATHE_RETURN_IF_ERROR(sendHeader(fp4 ? scale / 5 : 1.0f, to));
  LathePack pack = packOf(weight.desc);
  pack.rows = int(weight.desc.rows);
  pack.seed = seed;
  pack.scale = weight.desc.format == WeightFormat::Int4 ? scale / 8 : scale;
  pack.packed = pointer<void>(to + kCudaWeightHeader);
  return launchPack(fillFunction, pack);
}

Status CudaLoader::fill(const Plan &plan) {
  LATHE_ASSIGN_OR_RETURN(
      pinned, cuda::PinnedBuffer::allocate(stream.context(), 2 * kUploadBytes));
  for (size_t i = 0; i < plan.weights.size(); ++i)
    LATHE_RETURN_IF_ERROR(
        fillWeight(plan.weights[i], base + memory.weights[i]));
  return stream.synchronize();
}

} // namespace lathe
