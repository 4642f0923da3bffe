#include "runtime/io/WeightFormats.h"

#include <cmath>

namespace lathe {

static constexpr int64_t kBlock = 16;

namespace {
/// The tensors of one NVFP4 module.
struct Parts {
  TensorRef codes;
  TensorRef scales;
  TensorRef global;
  bool isDivisor; ///< compressed-tensors stores the global scale's inverse
};
} // namespace

static StatusOr<Parts> findParts(const TensorTable &table,
                                 const std::string &module) {
  Parts parts;
  parts.isDivisor = table.find(module + ".weight_packed") != nullptr;
  if (const TensorRef *smooth = table.find(module + ".pre_quant_scale"))
    return smooth->error("NVFP4_AWQ is not supported; supported are " +
                         std::string(supportedFormats()));
  LATHE_ASSIGN_OR_RETURN(
      parts.codes,
      table.get(module + (parts.isDivisor ? ".weight_packed" : ".weight")));
  LATHE_ASSIGN_OR_RETURN(parts.scales, table.get(module + ".weight_scale"));
  LATHE_ASSIGN_OR_RETURN(
      parts.global, table.get(module + (parts.isDivisor ? ".weight_global_scale"
                                                        : ".weight_scale_2")));
  return parts;
}

StatusOr<WeightDesc> describeNvFp4(const TensorTable &table,
                                   const std::string &module) {
  LATHE_ASSIGN_OR_RETURN(Parts parts, findParts(table, module));
  const TensorInfo &codes = *parts.codes.info;
  if (codes.dtype != DType::U8 || codes.shape.size() != 2)
    return parts.codes.error("expected the codes as U8 [rows, columns / 2], "
                             "found " +
                             std::string(nameOf(codes.dtype)) + " " +
                             shapeText(codes.shape) + "; supported are " +
                             std::string(supportedFormats()));
  if (codes.shape[1] % (kBlock / 2) != 0)
    return parts.codes.error("the block size 16 does not divide its " +
                             std::to_string(codes.shape[1]) +
                             " bytes of codes per row");
  WeightDesc desc{.format = WeightFormat::NvFp4,
                  .rows = codes.shape[0],
                  .cols = codes.shape[1] * 2,
                  .group = int32_t(kBlock)};
  int64_t scaleShape[] = {desc.rows, desc.cols / kBlock};
  LATHE_RETURN_IF_ERROR(parts.scales.expect(DType::F8E4M3, scaleShape));
  if (parts.global.info->dtype != DType::F32 || parts.global.info->bytes() != 4)
    return parts.global.error("expected one F32 value, found " +
                              std::string(nameOf(parts.global.info->dtype)) +
                              " " + shapeText(parts.global.info->shape));
  return desc;
}

Status readNvFp4(const TensorTable &table, const std::string &module,
                 HostWeight &out) {
  LATHE_ASSIGN_OR_RETURN(Parts parts, findParts(table, module));
  LATHE_ASSIGN_OR_RETURN(std::vector<float> global, readFloats(parts.global));
  float scale = parts.isDivisor ? 1.0f / global[0] : global[0];
  if (!std::isfinite(global[0]) || !std::isfinite(scale) || !(scale > 0))
    return parts.global.error("expected a positive, finite global scale, "
                              "found " +
                              std::to_string(global[0]));
  out.globalScale = scale;
  out.blockScales.resize(parts.scales.info->bytes());
  LATHE_RETURN_IF_ERROR(parts.scales.read(0, out.blockScales));
  const size_t perRow = size_t(out.desc.cols / kBlock);
  for (size_t i = 0; i < out.blockScales.size(); ++i)
    if ((out.blockScales[i] & 0x7f) == 0x7f)
      return parts.scales.error(
          "NaN block scale in row " + std::to_string(i / perRow) + ", block " +
          std::to_string(i % perRow) + "; the export is broken");
  out.data.resize(parts.codes.info->bytes());
  return parts.codes.read(0, out.data);
}

} // namespace lathe
