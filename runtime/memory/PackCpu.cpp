#include "runtime/memory/PackCpu.h"

#include "absl/strings/str_cat.h"

#include <cstring>

namespace lathe {

namespace {

constexpr int64_t kLanes = kCpuTileRows;

int64_t roundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

bool isQuantized(WeightFormat format) {
  return format == WeightFormat::Int4 || format == WeightFormat::NvFp4;
}

/// A quantised tile: `front` bytes, then blocks of `groups` groups, each a
/// header of scales before its codes.
struct BlockLayout {
  int64_t front, group, groups, header;

  explicit BlockLayout(const WeightDesc &desc) : group(desc.group) {
    const bool nvfp4 = desc.format == WeightFormat::NvFp4;
    front = nvfp4 ? kLanes * 4 : 0;
    groups = nvfp4 || desc.asymmetric ? 4 : 2;
    header = desc.asymmetric ? groups * kLanes * 3 : 64;
  }

  int64_t tileBytes(int64_t cols) const {
    return front + roundUp(cols, group * groups) / (group * groups) * header +
           cols * kLanes / 2;
  }
  /// Offset of the block with group g, and g's place in the block.
  int64_t block(int64_t g) const {
    return front + g / groups * (header + groups * group * kLanes / 2);
  }
  int64_t index(int64_t g) const { return g % groups; }
  int64_t codes(int64_t g) const {
    return block(g) + header + index(g) * group * kLanes / 2;
  }
};

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

void packScales(const HostWeight &weight, int64_t row, int64_t g, int64_t lane,
                const BlockLayout &layout, uint8_t *tile) {
  const int64_t groups = weight.desc.cols / weight.desc.group;
  const size_t from = size_t(row * groups + g);
  uint8_t *header = tile + layout.block(g);
  const int64_t to = layout.index(g) * kLanes + lane;
  if (weight.desc.format == WeightFormat::NvFp4) {
    header[to] = weight.blockScales[from];
    return;
  }
  std::memcpy(header + to * 2, &weight.scales[from], 2);
  if (weight.desc.asymmetric)
    header[layout.groups * kLanes * 2 + to] = weight.zeros[from];
}

void packRow(const HostWeight &weight, int64_t row, int64_t lane,
             uint8_t *tile) {
  const WeightDesc &desc = weight.desc;
  if (!isQuantized(desc.format))
    return packFloats(weight, row, lane, tile);
  const BlockLayout layout(desc);
  if (desc.format == WeightFormat::NvFp4) {
    // The kernel's codes are twice, its block scales 2^-8 times their value.
    const float rowScale = weight.globalScale * 128.0f;
    std::memcpy(tile + lane * 4, &rowScale, 4);
  }
  const uint8_t *codes = weight.data.data() + row * desc.cols / 2;
  for (int64_t g = 0; g < desc.cols / desc.group; ++g) {
    packScales(weight, row, g, lane, layout, tile);
    packCodes(codes + g * desc.group / 2, desc.group, lane,
              tile + layout.codes(g));
  }
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
  if (isQuantized(desc.format))
    return BlockLayout(desc).tileBytes(desc.cols);
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
