//===- CudaLoader.h - parameters onto the GPU -------------------*- C++ -*-===//
//
// Reads weights with several threads, sends them in pieces through pinned
// memory, and lets the GPU rewrite each piece into the layout of its kernels
// while the next one is copied. Host memory holds a few tensors at a time.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_CUDALOADER_H
#define LATHE_RUNTIME_ENGINE_CUDALOADER_H

#include "runtime/artifact/Plan.h"
#include "runtime/base/CudaAbi.h"
#include "runtime/cuda/Stream.h"
#include "runtime/engine/CudaMemory.h"
#include "runtime/memory/WeightSource.h"
#include "runtime/memory/WeightStore.h"

namespace lathe {

/// Loads into memory that is laid out; one use.
class CudaLoader {
public:
  /// `runtime` is the module of compiler/device/cuda/runtime.cu, `base` the
  /// start of the buffer that `memory` describes. All must outlive the loader.
  static StatusOr<CudaLoader> create(cuda::Stream &stream,
                                     const cuda::Module &runtime,
                                     const CudaMemory &memory,
                                     cuda::DeviceAddress base);

  /// Every parameter of `plan` from `source`, read by `threads` threads.
  /// `progress` may be null. Errors: those of the source and the driver.
  Status load(const Plan &plan, WeightSource &source, int threads,
              const LoadProgress &progress);

  /// Random parameters, made on the GPU: the same for a name each time.
  Status fill(const Plan &plan);

private:
  struct Piece;
  explicit CudaLoader(cuda::Stream &stream, const CudaMemory &memory,
                      cuda::DeviceAddress base)
      : stream(stream), memory(memory), base(base) {}
  Status loadWeight(const PlannedWeight &weight, const HostWeight &host,
                    cuda::DeviceAddress to);
  Status sendHeader(float globalScale, cuda::DeviceAddress to);
  Status sendPiece(const PlannedWeight &weight, const HostWeight &host,
                   int64_t firstRow, int64_t rows, cuda::DeviceAddress to);
  Status copy(const void *from, size_t bytes, cuda::DeviceAddress to);
  Status fillWeight(const PlannedWeight &weight, cuda::DeviceAddress to);
  Status launchPack(const cuda::Function &function, LathePack pack);
  /// The next pair of staging buffers, free to be written.
  Status nextStage();

  cuda::Stream &stream;
  const CudaMemory &memory;
  cuda::DeviceAddress base;
  cuda::Function packFunction, fillFunction, fillFloats, fillBf16;
  cuda::PinnedBuffer pinned; ///< two stages
  cuda::Event stageDone[2];
  int stage = 0;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_CUDALOADER_H
