#include "runtime/base/Weight.h"

#include "runtime/base/Float.h"

#include <cstring>

namespace lathe {

std::string_view nameOf(WeightFormat format) {
  switch (format) {
  case WeightFormat::F32:
    return "f32";
  case WeightFormat::F16:
    return "f16";
  case WeightFormat::BF16:
    return "bf16";
  case WeightFormat::Int4:
    return "int4";
  case WeightFormat::NvFp4:
    return "nvfp4";
  }
  return "?";
}

int64_t WeightDesc::byteSize() const {
  int64_t elements = rows * cols;
  switch (format) {
  case WeightFormat::F32:
    return elements * 4;
  case WeightFormat::F16:
  case WeightFormat::BF16:
    return elements * 2;
  case WeightFormat::Int4:
    return elements / 2 + rows * (cols / group) * (asymmetric ? 3 : 2);
  case WeightFormat::NvFp4:
    return elements / 2 + rows * (cols / group) + 4;
  }
  return 0;
}

static uint16_t load16(const uint8_t *p) {
  uint16_t v;
  std::memcpy(&v, p, 2);
  return v;
}

void HostWeight::dequantizeRow(int64_t row, float *out) const {
  const int64_t cols = desc.cols;
  if (desc.format == WeightFormat::F32) {
    std::memcpy(out, data.data() + row * cols * 4, size_t(cols) * 4);
    return;
  }
  if (desc.format == WeightFormat::F16 || desc.format == WeightFormat::BF16) {
    const uint8_t *p = data.data() + row * cols * 2;
    for (int64_t c = 0; c < cols; ++c)
      out[c] = desc.format == WeightFormat::F16
                   ? f16ToFloat(load16(p + 2 * c))
                   : bf16ToFloat(load16(p + 2 * c));
    return;
  }
  const int64_t groups = cols / desc.group;
  for (int64_t c = 0; c < cols; ++c) {
    uint8_t byte = data[size_t((row * cols + c) / 2)];
    uint8_t code = c & 1 ? byte >> 4 : byte & 15;
    size_t g = size_t(row * groups + c / desc.group);
    if (desc.format == WeightFormat::Int4)
      out[c] = f16ToFloat(scales[g]) *
               float(int(code) - (desc.asymmetric ? int(zeros[g]) : 8));
    else
      out[c] = e2m1ToFloat(code) * e4m3ToFloat(blockScales[g]) * globalScale;
  }
}

} // namespace lathe
