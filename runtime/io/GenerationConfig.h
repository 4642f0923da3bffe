//===- GenerationConfig.h - stop tokens and sampling defaults ---*- C++ -*-===//

#ifndef LATHE_RUNTIME_IO_GENERATIONCONFIG_H
#define LATHE_RUNTIME_IO_GENERATIONCONFIG_H

#include "runtime/base/Status.h"
#include "runtime/io/Json.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lathe {

/// What a model's author recommends. An empty optional means "not said".
struct GenerationConfig {
  /// Tokens that end a text, ascending: those of generation_config.json and
  /// of config.json (its root and its text_config) together.
  std::vector<int32_t> stopIds;
  std::optional<bool> doSample;
  std::optional<double> temperature;
  std::optional<double> topP;
  std::optional<int32_t> topK;
};

/// `config` is the root of config.json; `generation` the root of
/// generation_config.json, or null when the model has none. modelError for
/// fields of the wrong type or out of range.
StatusOr<GenerationConfig> parseGenerationConfig(const JsonValue &config,
                                                 const JsonValue *generation);

/// Reads both files of a model directory; generation_config.json may be
/// missing.
StatusOr<GenerationConfig> readGenerationConfig(const std::string &directory);

} // namespace lathe

#endif // LATHE_RUNTIME_IO_GENERATIONCONFIG_H
