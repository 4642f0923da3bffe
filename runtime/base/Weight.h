//===- Weight.h - a weight matrix in its canonical host form ----*- C++ -*-===//
//
// Readers of every checkpoint format produce a HostWeight; packers turn it
// into the layout that a kernel streams. A weight is W[row, col] with rows =
// output features (N) and cols = input features (K), so y = W x.
//
//   F32/F16/BF16  data: row-major elements.
//   Int4          data: [rows, cols/2], column 2i in the low nibble of byte i.
//                 W = f16(scales[row, col/group]) * (code - zero), where zero
//                 is 8, or zeros[row, col/group] when asymmetric. Scales may
//                 be negative.
//   NvFp4         data: as Int4, each code an E2M1 float. W = e2m1(code) *
//                 e4m3(blockScales[row, col/16]) * globalScale.
//
// Sources of the on-disk formats: docs/checkpoints.md.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_BASE_WEIGHT_H
#define LATHE_RUNTIME_BASE_WEIGHT_H

#include <cstdint>
#include <string_view>
#include <vector>

namespace lathe {

enum class WeightFormat : uint8_t { F32, F16, BF16, Int4, NvFp4 };

/// "f32", "f16", "bf16", "int4" or "nvfp4".
std::string_view nameOf(WeightFormat format);

/// Shape and format of a weight matrix, without its values.
struct WeightDesc {
  WeightFormat format = WeightFormat::F32;
  int64_t rows = 0;
  int64_t cols = 0;
  int32_t group = 0;       ///< columns per scale: Int4 any, NvFp4 16, else 0
  bool asymmetric = false; ///< Int4 only: has zero points

  bool operator==(const WeightDesc &) const = default;

  /// Bytes of codes, scales and zero points together, unpadded.
  int64_t byteSize() const;
};

/// A weight matrix in the canonical form described at the top of this file.
struct HostWeight {
  WeightDesc desc;
  std::vector<uint8_t> data;
  std::vector<uint16_t> scales;
  std::vector<uint8_t> zeros;
  std::vector<uint8_t> blockScales;
  float globalScale = 1.0f;

  /// Writes row `row` as `desc.cols` floats to `out`.
  void dequantizeRow(int64_t row, float *out) const;
};

} // namespace lathe

#endif // LATHE_RUNTIME_BASE_WEIGHT_H
