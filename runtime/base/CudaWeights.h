//===- CudaWeights.h - weights as CUDA kernels stream them ------*- C++ -*-===//
//
// Header-free: the host sizes buffers with it, the device library (weights.cuh,
// which describes the bits) is compiled with it.
//
// A packed weight is a header and then tiles of 16 rows, each cut along its
// columns into units; a unit is contiguous and brings its own scales, so that
// one bulk copy delivers everything a warp needs for it. Rows and columns are
// padded with zeros.
//
//   format             unit columns   unit bytes
//   Half (F16, BF16)         64       2048
//   Wide (F32)               64       4096: two halves, upper and lower part
//   Int4                    256       2048 + 32 per group of columns, twice
//                                     that when asymmetric
//   NvFp4                   256       2048 + 256
//
// BF16 becomes f16: exact from 2^-14 on, within 2^-25 below. Int4 groups are
// stored per `grain`: the largest power of two up to 128 that divides a group.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_BASE_CUDAWEIGHTS_H
#define LATHE_RUNTIME_BASE_CUDAWEIGHTS_H

namespace lathe {

enum class CudaFormat { Half, Wide, Int4, NvFp4 };

/// Bytes in front of the tiles; the first float is the global scale.
constexpr int kCudaWeightHeader = 256;

/// A packed format with its parameters.
struct CudaPacking {
  CudaFormat format;
  int grain;       ///< Int4: columns per stored scale, 16 to 128; else 128
  bool asymmetric; ///< Int4 only

  constexpr int unitColumns() const {
    return format == CudaFormat::Half || format == CudaFormat::Wide ? 64 : 256;
  }
  constexpr int unitBytes() const {
    switch (format) {
    case CudaFormat::Half:
      return 2048;
    case CudaFormat::Wide:
      return 4096;
    case CudaFormat::Int4:
      return 2048 + 256 / grain * 32 * (asymmetric ? 2 : 1);
    case CudaFormat::NvFp4:
      return 2048 + 256;
    }
    return 0;
  }
  constexpr int units(int columns) const {
    return (columns + unitColumns() - 1) / unitColumns();
  }
  constexpr long long bytes(int rows, int columns) const {
    return kCudaWeightHeader +
           (long long)((rows + 15) / 16) * units(columns) * unitBytes();
  }
};

/// The grain of an Int4 group, which is a multiple of 16.
constexpr int cudaGrain(int group) {
  for (int grain = 128; grain > 16; grain /= 2)
    if (group % grain == 0)
      return grain;
  return 16;
}

} // namespace lathe

#endif // LATHE_RUNTIME_BASE_CUDAWEIGHTS_H
