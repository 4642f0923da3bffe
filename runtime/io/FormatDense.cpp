#include "runtime/base/Float.h"
#include "runtime/io/WeightFormats.h"

#include <cstring>

namespace lathe {

StatusOr<WeightDesc> describeDense(const TensorTable &table,
                                   const std::string &module) {
  LATHE_ASSIGN_OR_RETURN(TensorRef weight, table.get(module + ".weight"));
  const TensorInfo &info = *weight.info;
  WeightDesc desc;
  if (info.dtype == DType::BF16)
    desc.format = WeightFormat::BF16;
  else if (info.dtype == DType::F16)
    desc.format = WeightFormat::F16;
  else if (info.dtype != DType::F32)
    return weight.error("the element type " + std::string(nameOf(info.dtype)) +
                        " is not supported here; supported are " +
                        std::string(supportedFormats()));
  if (info.shape.size() != 2)
    return weight.error("expected a matrix, found the shape " +
                        shapeText(info.shape));
  desc.rows = info.shape[0];
  desc.cols = info.shape[1];
  return desc;
}

Status readDense(const TensorTable &table, const std::string &module,
                 HostWeight &out) {
  LATHE_ASSIGN_OR_RETURN(TensorRef weight, table.get(module + ".weight"));
  out.data.resize(weight.info->bytes());
  return weight.read(0, out.data);
}

void toFloats(DType dtype, std::span<const uint8_t> bytes, float *out) {
  if (dtype == DType::F32) {
    std::memcpy(out, bytes.data(), bytes.size());
    return;
  }
  for (size_t i = 0; i < bytes.size() / 2; ++i) {
    uint16_t v;
    std::memcpy(&v, bytes.data() + 2 * i, 2);
    out[i] = dtype == DType::F16 ? f16ToFloat(v) : bf16ToFloat(v);
  }
}

StatusOr<std::vector<float>> readFloats(const TensorRef &tensor) {
  const TensorInfo &info = *tensor.info;
  if (info.dtype != DType::BF16 && info.dtype != DType::F16 &&
      info.dtype != DType::F32)
    return tensor.error("expected BF16, F16 or F32, found " +
                        std::string(nameOf(info.dtype)));
  std::vector<uint8_t> bytes(info.bytes());
  LATHE_RETURN_IF_ERROR(tensor.read(0, bytes));
  std::vector<float> out(bytes.size() / size_t(byteSize(info.dtype)));
  toFloats(info.dtype, bytes, out.data());
  return out;
}

} // namespace lathe
