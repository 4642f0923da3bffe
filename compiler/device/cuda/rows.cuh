//===- rows.cuh - embedding rows and rows on their own ---------*- CUDA -*-===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_ROWS_CUH
#define LATHE_COMPILER_DEVICE_CUDA_ROWS_CUH

#include "compiler/device/cuda/rms.cuh"
#include "compiler/device/cuda/weights.cuh"

namespace lathe {

/// Threads of the entries that work on rows; grid.y is the token.
constexpr int kRowThreads = 256;

enum class RowFormat { F32, F16, Bf16 };

/// A row-major table.
template <RowFormat kFormat, int kColumns> struct PlainTable {
  const void *data;
  LATHE_DEVICE_MEMBER float at(int row, int column) const {
    i64 i = (i64)row * kColumns + column;
    if constexpr (kFormat == RowFormat::F32)
      return ((const float *)data)[i];
    u16 half = ((const u16 *)data)[i];
    return kFormat == RowFormat::F16 ? halfToFloat(half) : bf16ToFloat(half);
  }
};
/// A table that a linear reads too.
template <CudaFormat kFormat, int kGrain, bool kAsymmetric, int kColumns>
struct PackedTable {
  const void *data;
  LATHE_DEVICE_MEMBER float at(int row, int column) const {
    return weightAt<kFormat, kGrain, kAsymmetric, kColumns>((const char *)data,
                                                            row, column);
  }
};

/// One column per thread: grid.x covers the columns.
template <int kColumns, class Table>
LATHE_DEVICE void gatherRow(const Table &table, const int *ids, float *out) {
  int t = blockY(), column = blockX() * kRowThreads + threadX();
  if (column < kColumns)
    out[(i64)t * strideOf(kColumns) + column] = table.at(ids[t], column);
}

/// y[k] = f(0, k) for the columns of one row. Rows are padded to fours.
template <int kWidth, class F> LATHE_DEVICE void eachColumn(float *y, F f) {
#pragma unroll 4
  for (int k = threadX() * 4; k < kWidth; k += threadCount() * 4) {
    Float4 v = fourOf<kWidth>(f, 0, k);
    if (k + 4 <= kWidth) {
      *(Float4 *)(y + k) = v;
    } else {
      y[k] = v.x;
      if (k + 1 < kWidth)
        y[k + 1] = v.y;
      if (k + 2 < kWidth)
        y[k + 2] = v.z;
    }
  }
}

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_ROWS_CUH
