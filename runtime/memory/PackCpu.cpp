#include "runtime/memory/PackCpu.h"

#include "absl/strings/str_cat.h"

#include <cstring>

namespace lathe {

namespace {

constexpr int64_t kLanes = kCpuTileRows;

int64_t roundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/// Bytes in front of a tile's codes.
int64_t headerBytes(const WeightDesc &desc) {
  switch (desc.format) {
  case WeightFormat::Int4:
    return roundUp(desc.cols / desc.group * kLanes * (desc.asymmetric ? 3 : 2),
                   kCpuTileAlignment);
  case WeightFormat::NvFp4:
    return kLanes * 4 + roundUp(desc.cols, kCpuTileAlignment);
  default:
    return 0;
  }
}

int64_t elementBytes(WeightFormat format) {
  return format == WeightFormat::F32 ? 4 : 2;
}

/// Float tiles hold a column's rows side by side; BF16 tiles hold two columns
/// per lane.
void packFloats(const HostWeight &weight, int64_t row, int64_t lane,
                uint8_t *tile) {
  const int64_t cols = weight.desc.cols;
  const int64_t size = elementBytes(weight.desc.format);
  const uint8_t *from = weight.data.data() + row * cols * size;
  if (weight.desc.format == WeightFormat::BF16) {
    for (int64_t c = 0; c < cols; ++c)
      std::memcpy(tile + c / 2 * 4 * kLanes + lane * 4 + c % 2 * 2,
                  from + c * 2, 2);
    return;
  }
  for (int64_t c = 0; c < cols; ++c)
    std::memcpy(tile + (c * kLanes + lane) * size, from + c * size,
                size_t(size));
}

/// Four nibbles, low first, as the low halves of four bytes.
uint32_t spreadNibbles(uint32_t v) {
  v = (v | v << 8) & 0x00ff00ff;
  return (v | v << 4) & 0x0f0f0f0f;
}

/// Eight columns per lane: 0..3 in the low nibbles of four bytes, 4..7 in the
/// high ones.
void packCodes(const uint8_t *from, int64_t cols, int64_t lane,
               uint8_t *codes) {
  for (int64_t c = 0; c < cols; c += 8) {
    uint32_t v = 0;
    for (int i = 0; i < 4; ++i)
      v |= uint32_t(from[c / 2 + i]) << 8 * i;
    v = spreadNibbles(v & 0xffff) | spreadNibbles(v >> 16) << 4;
    uint8_t *to = codes + c * 8 + lane * 4;
    for (int i = 0; i < 4; ++i)
      to[i] = uint8_t(v >> 8 * i);
  }
}

void packInt4Header(const HostWeight &weight, int64_t row, int64_t lane,
                    uint8_t *tile) {
  const int64_t groups = weight.desc.cols / weight.desc.group;
  for (int64_t g = 0; g < groups; ++g) {
    std::memcpy(tile + (g * kLanes + lane) * 2,
                &weight.scales[size_t(row * groups + g)], 2);
    if (weight.desc.asymmetric)
      tile[(groups * 2 + g) * kLanes + lane] =
          weight.zeros[size_t(row * groups + g)];
  }
}

/// The row scale makes up for what the kernel leaves out: codes count halves
/// (2^-1) and block scales read 2^-8 times their value, hence 2^7.
void packNvFp4Header(const HostWeight &weight, int64_t row, int64_t lane,
                     uint8_t *tile) {
  const float rowScale = weight.globalScale * 128.0f;
  std::memcpy(tile + lane * 4, &rowScale, 4);
  const int64_t groups = weight.desc.cols / 16;
  for (int64_t g = 0; g < groups; ++g)
    tile[kLanes * 4 + g * kLanes + lane] =
        weight.blockScales[size_t(row * groups + g)];
}

void packRow(const HostWeight &weight, int64_t row, int64_t lane,
             uint8_t *tile) {
  const WeightDesc &desc = weight.desc;
  if (desc.format != WeightFormat::Int4 && desc.format != WeightFormat::NvFp4)
    return packFloats(weight, row, lane, tile);
  if (desc.format == WeightFormat::Int4)
    packInt4Header(weight, row, lane, tile);
  else
    packNvFp4Header(weight, row, lane, tile);
  packCodes(weight.data.data() + row * desc.cols / 2, desc.cols, lane,
            tile + headerBytes(desc));
}

} // namespace

Status checkPackable(const WeightDesc &desc) {
  if (desc.rows <= 0 || desc.cols <= 0)
    return modelError(
        absl::StrCat("a weight of ", desc.rows, " x ", desc.cols, " is empty"));
  if (desc.format == WeightFormat::NvFp4 && desc.group != 16)
    return modelError(
        absl::StrCat("nvfp4 has groups of 16 columns, not ", desc.group));
  const bool grouped =
      desc.format == WeightFormat::Int4 || desc.format == WeightFormat::NvFp4;
  if (grouped &&
      (desc.group <= 0 || desc.group % 16 != 0 || desc.cols % desc.group != 0))
    return modelError(absl::StrCat(
        "the CPU kernels take quantisation groups of a multiple of 16 columns "
        "that divides the row; found groups of ",
        desc.group, " in rows of ", desc.cols));
  return absl::OkStatus();
}

int64_t tileCount(const WeightDesc &desc) {
  return roundUp(desc.rows, kLanes) / kLanes;
}

int64_t tileBytes(const WeightDesc &desc) {
  if (desc.format == WeightFormat::Int4 || desc.format == WeightFormat::NvFp4)
    return headerBytes(desc) + desc.cols * kLanes / 2;
  return roundUp(desc.cols, kLanes) * kLanes * elementBytes(desc.format);
}

int64_t packedBytes(const WeightDesc &desc) {
  return tileCount(desc) * tileBytes(desc);
}

void packRows(const HostWeight &weight, int64_t tileBegin, int64_t tileEnd,
              uint8_t *dst) {
  const int64_t bytes = tileBytes(weight.desc);
  for (int64_t t = tileBegin; t < tileEnd; ++t) {
    uint8_t *tile = dst + t * bytes;
    // Padding rows, columns and header bytes are zero.
    std::memset(tile, 0, size_t(bytes));
    for (int64_t lane = 0; lane < kLanes; ++lane)
      if (int64_t row = t * kLanes + lane; row < weight.desc.rows)
        packRow(weight, row, lane, tile);
  }
}

} // namespace lathe
