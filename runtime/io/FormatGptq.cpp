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

/// The scales as F16 in disk order. Other types are converted if that is exact.
static StatusOr<std::vector<uint16_t>> readHalves(const TensorRef &scales) {
  std::vector<uint16_t> out;
  if (scales.info->dtype == DType::F16) {
    out.resize(scales.info->bytes() / 2);
    LATHE_RETURN_IF_ERROR(scales.read(
        0, {reinterpret_cast<uint8_t *>(out.data()), out.size() * 2}));
    return out;
  }
  LATHE_ASSIGN_OR_RETURN(std::vector<float> values, readFloats(scales));
  for (float v : values) {
    out.push_back(floatToF16(v));
    if (std::isfinite(v) && f16ToFloat(out.back()) != v)
      return scales.error("the scale " + std::to_string(v) +
                          " does not fit F16");
  }
  return out;
}

static StatusOr<std::vector<uint16_t>> readScales(const TensorTable &table,
                                                  const std::string &module,
                                                  const Geometry &g) {
  LATHE_ASSIGN_OR_RETURN(TensorRef scales, table.get(module + ".scales"));
  LATHE_ASSIGN_OR_RETURN(std::vector<uint16_t> values, readHalves(scales));
  std::vector<uint16_t> out(values.size());
  for (int64_t i = 0; i < g.groups; ++i)
    for (int64_t n = 0; n < g.rows; ++n) {
      uint16_t half = values[size_t(i * g.rows + n)];
      if ((half & 0x7c00) == 0x7c00)
        return scales.error(std::string(half & 0x3ff ? "NaN" : "infinite") +
                            " scale in row " + std::to_string(n) + ", group " +
                            std::to_string(i));
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
  std::vector<uint32_t> stored(size_t(g.groups * words));
  LATHE_RETURN_IF_ERROR(zeros.read(
      0, {reinterpret_cast<uint8_t *>(stored.data()), stored.size() * 4}));
  // Writers subtract one from all eight fields as a single number, so a zero
  // point of 0 borrows from its neighbour.
  if (config.zerosMinusOne)
    for (uint32_t &word : stored)
      word += 0x11111111;
  std::vector<uint8_t> out;
  if (std::ranges::all_of(stored, [](uint32_t w) { return w == 0x88888888; }))
    return out;
  out.resize(size_t(g.rows * g.groups));
  for (int64_t i = 0; i < g.groups; ++i)
    for (int64_t n = 0; n < g.rows; ++n)
      out[size_t(n * g.groups + i)] =
          (stored[size_t(i * words + n / kCodesPerWord)] >>
           (4 * (n % kCodesPerWord))) &
          15;
  return out;
}

/// Transposes `count` rows of `columns` words into rows of `toStride` words.
/// The tile in between keeps the source rows, which are often a multiple of
/// 4 KiB apart, from evicting each other.
static void transpose(const uint32_t *from, int64_t columns, int64_t count,
                      uint32_t *to, int64_t toStride) {
  uint32_t tile[kStrip][kStrip];
  for (int64_t n0 = 0; n0 < columns; n0 += kStrip) {
    const int64_t width = std::min(kStrip, columns - n0);
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < width; ++j)
        tile[j][i] = from[i * columns + n0 + j];
    for (int64_t j = 0; j < width; ++j)
      std::memcpy(to + (n0 + j) * toStride, tile[j], size_t(count) * 4);
  }
}

/// Reads the words [K/8, N] strip by strip and writes them as [N, K/8]. A word
/// already holds eight codes in the canonical order.
static Status readCodes(const TensorRef &codes, const Geometry &g,
                        std::vector<uint8_t> &out) {
  const int64_t wordRows = g.cols / kCodesPerWord;
  out.resize(size_t(g.rows * g.cols / 2));
  auto *words = reinterpret_cast<uint32_t *>(out.data());
  std::vector<uint32_t> strip(size_t(kStrip * g.rows));
  for (int64_t first = 0; first < wordRows; first += kStrip) {
    const int64_t count = std::min(kStrip, wordRows - first);
    LATHE_RETURN_IF_ERROR(codes.read(uint64_t(first * g.rows * 4),
                                     {reinterpret_cast<uint8_t *>(strip.data()),
                                      size_t(count * g.rows * 4)}));
    transpose(strip.data(), g.rows, count, words + first, wordRows);
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
