#include "runtime/base/Float.h"
#include "runtime/io/WeightFormats.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace lathe {

static constexpr int64_t kCodesPerWord = 8;
/// Word rows that are transposed together: one cache line of every output row.
static constexpr int64_t kStrip = 16;

namespace {
struct Geometry {
  int64_t rows;   ///< N
  int64_t cols;   ///< K
  int64_t group;  ///< columns per scale
  int64_t groups; ///< K / group
};
} // namespace

static StatusOr<Geometry> findGeometry(const TensorTable &table,
                                       const QuantConfig &config,
                                       const std::string &module) {
  LATHE_ASSIGN_OR_RETURN(TensorRef codes, table.get(module + ".qweight"));
  if (config.method != QuantMethod::Gptq)
    return codes.error("the checkpoint has INT4 weights, but its "
                       "quantization_config names no INT4 method");
  const TensorInfo &info = *codes.info;
  if (info.dtype != DType::I32 || info.shape.size() != 2)
    return codes.error("expected I32 [columns / 8, rows], found " +
                       std::string(nameOf(info.dtype)) + " " +
                       shapeText(info.shape));
  Geometry g{};
  if (__builtin_mul_overflow(info.shape[0], kCodesPerWord, &g.cols) ||
      g.cols <= 0 || info.shape[1] <= 0)
    return codes.error("expected a matrix, found the shape " +
                       shapeText(info.shape));
  g.rows = info.shape[1];
  g.group = config.group < 0 ? g.cols : config.group;
  if (g.cols % g.group != 0)
    return codes.error("the group size " + std::to_string(g.group) +
                       " does not divide its " + std::to_string(g.cols) +
                       " columns");
  if (g.rows % kCodesPerWord != 0)
    return codes.error("expected a multiple of 8 rows, found " +
                       std::to_string(g.rows));
  g.groups = g.cols / g.group;
  return g;
}

/// desc_act permutes the columns: their group is then not column / group.
static Status checkGroupIndex(const TensorTable &table,
                              const QuantConfig &config,
                              const std::string &module, const Geometry &g) {
  const TensorRef *index = table.find(module + ".g_idx");
  if (!index && config.permuted)
    return modelError(module + ": desc_act is set, but the checkpoint has no " +
                      module + ".g_idx");
  if (!index)
    return absl::OkStatus();
  int64_t shape[] = {g.cols};
  LATHE_RETURN_IF_ERROR(index->expect(DType::I32, shape));
  std::vector<uint8_t> bytes(index->info->bytes());
  LATHE_RETURN_IF_ERROR(index->read(0, bytes));
  for (int64_t k = 0; k < g.cols; ++k) {
    int32_t v;
    std::memcpy(&v, bytes.data() + 4 * k, 4);
    if (v != k / g.group)
      return index->error("desc_act (act-order) is not supported; quantise "
                          "with desc_act=false");
  }
  return absl::OkStatus();
}

static StatusOr<std::vector<uint16_t>> readScales(const TensorTable &table,
                                                  const std::string &module,
                                                  const Geometry &g) {
  LATHE_ASSIGN_OR_RETURN(TensorRef scales, table.get(module + ".scales"));
  LATHE_ASSIGN_OR_RETURN(std::vector<float> values, readFloats(scales));
  std::vector<uint16_t> out(values.size());
  for (int64_t i = 0; i < g.groups; ++i)
    for (int64_t n = 0; n < g.rows; ++n) {
      float v = values[size_t(i * g.rows + n)];
      std::string where =
          " in row " + std::to_string(n) + ", group " + std::to_string(i);
      if (!std::isfinite(v))
        return scales.error((std::isnan(v) ? "NaN scale" : "infinite scale") +
                            where);
      uint16_t half = floatToF16(v);
      if (f16ToFloat(half) != v)
        return scales.error("the scale" + where + " does not fit F16");
      out[size_t(n * g.groups + i)] = half;
    }
  return out;
}

/// The zero points as [rows, groups]; empty when all of them are 8.
static StatusOr<std::vector<uint8_t>> readZeros(const TensorTable &table,
                                                const QuantConfig &config,
                                                const std::string &module,
                                                const Geometry &g) {
  const TensorRef *found = table.find(module + ".qzeros");
  if (!found && config.symmetric)
    return std::vector<uint8_t>();
  LATHE_ASSIGN_OR_RETURN(TensorRef zeros, table.get(module + ".qzeros"));
  const int64_t words = g.rows / kCodesPerWord;
  int64_t shape[] = {g.groups, words};
  LATHE_RETURN_IF_ERROR(zeros.expect(DType::I32, shape));
  std::vector<uint8_t> bytes(zeros.info->bytes());
  LATHE_RETURN_IF_ERROR(zeros.read(0, bytes));
  std::vector<uint8_t> out(size_t(g.rows * g.groups));
  bool symmetric = true;
  for (int64_t i = 0; i < g.groups; ++i)
    for (int64_t w = 0; w < words; ++w) {
      uint32_t word;
      std::memcpy(&word, bytes.data() + 4 * (i * words + w), 4);
      // Writers subtract one from all eight fields as a single number, so a
      // zero point of 0 borrows from its neighbour.
      if (config.zerosMinusOne)
        word += 0x11111111;
      symmetric &= word == 0x88888888;
      for (int64_t j = 0; j < kCodesPerWord; ++j)
        out[size_t((w * kCodesPerWord + j) * g.groups + i)] =
            (word >> (4 * j)) & 15;
    }
  return symmetric ? std::vector<uint8_t>() : out;
}

/// Reads the words [K/8, N] strip by strip and writes them as [N, K/8]. A word
/// already holds eight codes in the canonical order.
static Status readCodes(const TensorRef &codes, const Geometry &g,
                        std::vector<uint8_t> &out) {
  const int64_t wordRows = g.cols / kCodesPerWord;
  out.resize(size_t(g.rows * g.cols / 2));
  std::vector<uint8_t> strip(size_t(kStrip * g.rows * 4));
  for (int64_t first = 0; first < wordRows; first += kStrip) {
    const int64_t count = std::min(kStrip, wordRows - first);
    LATHE_RETURN_IF_ERROR(
        codes.read(uint64_t(first * g.rows * 4),
                   std::span(strip).first(size_t(count * g.rows * 4))));
    for (int64_t n0 = 0; n0 < g.rows; n0 += kStrip) {
      const int64_t end = std::min(g.rows, n0 + kStrip);
      for (int64_t n = n0; n < end; ++n) {
        uint8_t *to = out.data() + (n * wordRows + first) * 4;
        const uint8_t *from = strip.data() + n * 4;
        for (int64_t i = 0; i < count; ++i)
          std::memcpy(to + 4 * i, from + i * g.rows * 4, 4);
      }
    }
  }
  return absl::OkStatus();
}

StatusOr<WeightDesc> describeGptq(const TensorTable &table,
                                  const QuantConfig &config,
                                  const std::string &module) {
  LATHE_ASSIGN_OR_RETURN(Geometry g, findGeometry(table, config, module));
  LATHE_RETURN_IF_ERROR(checkGroupIndex(table, config, module, g));
  LATHE_ASSIGN_OR_RETURN(TensorRef scales, table.get(module + ".scales"));
  int64_t shape[] = {g.groups, g.rows};
  LATHE_RETURN_IF_ERROR(scales.expect(scales.info->dtype == DType::BF16 ||
                                              scales.info->dtype == DType::F32
                                          ? scales.info->dtype
                                          : DType::F16,
                                      shape));
  LATHE_ASSIGN_OR_RETURN(std::vector<uint8_t> zeros,
                         readZeros(table, config, module, g));
  return WeightDesc{.format = WeightFormat::Int4,
                    .rows = g.rows,
                    .cols = g.cols,
                    .group = int32_t(g.group),
                    .asymmetric = !zeros.empty()};
}

Status readGptq(const TensorTable &table, const QuantConfig &config,
                const std::string &module, HostWeight &out) {
  LATHE_ASSIGN_OR_RETURN(Geometry g, findGeometry(table, config, module));
  LATHE_ASSIGN_OR_RETURN(out.scales, readScales(table, module, g));
  LATHE_ASSIGN_OR_RETURN(out.zeros, readZeros(table, config, module, g));
  LATHE_ASSIGN_OR_RETURN(TensorRef codes, table.get(module + ".qweight"));
  return readCodes(codes, g, out.data);
}

} // namespace lathe
