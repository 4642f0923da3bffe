//===- QuantConfig.h - how a checkpoint says it was quantised ---*- C++ -*-===//
//
// Reads quantization_config of config.json, or hf_quant_config.json. It tells
// what the tensors cannot: the group size and how zero points are stored.
// Which modules are quantised is decided by the tensors that exist.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_QUANTCONFIG_H
#define LATHE_RUNTIME_IO_QUANTCONFIG_H

#include "runtime/base/Status.h"
#include "runtime/io/Json.h"

#include <cstdint>
#include <optional>
#include <string_view>

namespace lathe {

enum class QuantMethod : uint8_t {
  None,
  Gptq,             ///< AutoRound and GPTQ INT4, see docs/checkpoints.md
  ModelOpt,         ///< NVFP4 with a global multiplier
  CompressedTensors ///< NVFP4 with a global divisor
};

struct QuantConfig {
  QuantMethod method = QuantMethod::None;
  int64_t group = 0;         ///< Gptq: columns per scale, -1 for all of them
  bool zerosMinusOne = true; ///< Gptq: zero points are stored less one
  bool symmetric = true;     ///< Gptq: what to assume without qzeros
  bool permuted = false;     ///< Gptq: desc_act was set
};

/// The formats that are read, for messages.
std::string_view supportedFormats();

/// Reads a "quantization_config" object, or the root of hf_quant_config.json
/// (an object with a "quantization" member). modelError for a method that is
/// not supported, naming it and the supported ones.
StatusOr<QuantConfig> parseQuantConfig(const JsonValue &value);

/// The quantization_config object of a config.json, at its root or in its
/// text_config.
StatusOr<std::optional<JsonValue>> findQuantConfig(const JsonValue &config);

} // namespace lathe

#endif // LATHE_RUNTIME_IO_QUANTCONFIG_H
