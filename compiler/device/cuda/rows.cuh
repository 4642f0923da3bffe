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

/// The rows of kTokens tokens, by block `block` of `blocks`.
template <int kColumns, int kTokens, class Team, class Table>
LATHE_DEVICE void gatherRows(Team team, int block, int blocks,
                             const Table &table, const int *ids, float *out) {
  for (int i = block * team.size() + team.rank(); i < kTokens * kColumns;
       i += blocks * team.size()) {
    const int t = i / kColumns, column = i % kColumns;
    out[(i64)t * strideOf(kColumns) + column] = table.at(ids[t], column);
  }
}
/// f(t) for every token, by one block each.
template <int kTokens, class Team, class F>
LATHE_DEVICE void eachToken(Team team, int block, int blocks, F f) {
  for (int t = block; t < kTokens; t += blocks) {
    f(t);
    team.sync(); // f has used the same shared memory
  }
}

/// y[k] = f(0, k) for the columns of one row. Rows are padded to fours.
template <int kWidth, class Team, class F>
LATHE_DEVICE void eachColumn(Team team, float *y, F f) {
#pragma unroll 4
  for (int k = team.rank() * 4; k < kWidth; k += team.size() * 4) {
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
