//===- CudaPacking.h - the packed format of a weight ------------*- C++ -*-===//

#ifndef LATHE_RUNTIME_BASE_CUDAPACKING_H
#define LATHE_RUNTIME_BASE_CUDAPACKING_H

#include "runtime/base/CudaWeights.h"
#include "runtime/base/Weight.h"

namespace lathe {

/// How CUDA kernels stream a weight of this description.
inline CudaPacking cudaPacking(const WeightDesc &desc) {
  switch (desc.format) {
  case WeightFormat::F32:
    return {CudaFormat::Wide, 128, false};
  case WeightFormat::F16:
  case WeightFormat::BF16:
    return {CudaFormat::Half, 128, false};
  case WeightFormat::Int4:
    return {CudaFormat::Int4, cudaGrain(desc.group), desc.asymmetric};
  case WeightFormat::NvFp4:
    return {CudaFormat::NvFp4, 128, false};
  }
  return {CudaFormat::Half, 128, false};
}

/// Bytes of the packed weight.
inline int64_t cudaPackedBytes(const WeightDesc &desc) {
  return cudaPacking(desc).bytes(int(desc.rows), int(desc.cols));
}

} // namespace lathe

#endif // LATHE_RUNTIME_BASE_CUDAPACKING_H
