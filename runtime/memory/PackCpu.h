//===- PackCpu.h - weights in the layout of CPU kernels ---------*- C++ -*-===//
//
// Rewrites a HostWeight as row tiles that a CPU kernel streams front to back:
// 16 rows and all columns per tile, lane r of each vector belongs to row r.
// compiler/device/cpu/formats.h reads this layout and describes its bytes.
//
// A tile is self-contained and tiles are independent, so that threads may pack
// disjoint tile ranges of one destination, and packed weights of one format
// and width concatenate by rows (multiples of 16).
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_MEMORY_PACKCPU_H
#define LATHE_RUNTIME_MEMORY_PACKCPU_H

#include "runtime/base/Status.h"
#include "runtime/base/Weight.h"

#include <cstdint>

namespace lathe {

/// Rows of a tile.
inline constexpr int64_t kCpuTileRows = 16;
/// Alignment that kernels assume of a packed weight; tiles keep it.
inline constexpr int64_t kCpuTileAlignment = 64;

/// Whether the CPU kernels take this weight: the columns of a quantised weight
/// are a multiple of its group, and the group is a multiple of 16.
Status checkPackable(const WeightDesc &desc);

/// Tiles of a weight, the last one padded with zero rows.
int64_t tileCount(const WeightDesc &desc);

/// Bytes of one tile and of all tiles. REQUIRES: checkPackable(desc) is ok.
int64_t tileBytes(const WeightDesc &desc);
int64_t packedBytes(const WeightDesc &desc);

/// Writes tiles [tileBegin, tileEnd) to their places in `dst`, the start of
/// the whole packed weight of packedBytes() bytes. Every byte of these tiles
/// is written. REQUIRES: checkPackable(weight.desc) is ok, the vectors of
/// `weight` have the sizes that its desc implies.
void packRows(const HostWeight &weight, int64_t tileBegin, int64_t tileEnd,
              uint8_t *dst);

} // namespace lathe

#endif // LATHE_RUNTIME_MEMORY_PACKCPU_H
