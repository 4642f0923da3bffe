#include "runtime/io/GenerationConfig.h"

#include "runtime/io/File.h"

#include <algorithm>

namespace lathe {

static constexpr int64_t kMaxId = std::numeric_limits<int32_t>::max();

static Status addStopIds(const JsonValue &object, std::vector<int32_t> &ids) {
  LATHE_ASSIGN_OR_RETURN(auto field, object.find("eos_token_id"));
  if (!field)
    return absl::OkStatus();
  std::vector<JsonValue> values{*field};
  if (field->isArray()) {
    LATHE_ASSIGN_OR_RETURN(values, field->elements());
  }
  for (const JsonValue &value : values) {
    LATHE_ASSIGN_OR_RETURN(int64_t id, value.toInt(0, kMaxId));
    ids.push_back(int32_t(id));
  }
  return absl::OkStatus();
}

static StatusOr<std::optional<double>> findNumber(const JsonValue &object,
                                                  std::string_view key,
                                                  double min, double max,
                                                  std::string_view expected) {
  LATHE_ASSIGN_OR_RETURN(auto field, object.find(key));
  if (!field)
    return std::optional<double>();
  LATHE_ASSIGN_OR_RETURN(double value, field->toNumber());
  if (!(value >= min && value <= max))
    return field->mismatch(expected);
  return std::optional(value);
}

static Status addSampling(const JsonValue &object, GenerationConfig &out) {
  LATHE_ASSIGN_OR_RETURN(auto sample, object.find("do_sample"));
  if (sample) {
    LATHE_ASSIGN_OR_RETURN(out.doSample, sample->toBool());
  }
  LATHE_ASSIGN_OR_RETURN(
      out.temperature,
      findNumber(object, "temperature", 0, 1e6, "a temperature of at least 0"));
  LATHE_ASSIGN_OR_RETURN(
      out.topP, findNumber(object, "top_p", 0, 1, "a number from 0 to 1"));
  LATHE_ASSIGN_OR_RETURN(auto topK, object.find("top_k"));
  if (topK) {
    LATHE_ASSIGN_OR_RETURN(int64_t k, topK->toInt(0, kMaxId));
    out.topK = int32_t(k);
  }
  return absl::OkStatus();
}

StatusOr<GenerationConfig> parseGenerationConfig(const JsonValue &config,
                                                 const JsonValue *generation) {
  GenerationConfig out;
  LATHE_RETURN_IF_ERROR(addStopIds(config, out.stopIds));
  LATHE_ASSIGN_OR_RETURN(auto text, config.find("text_config"));
  if (text)
    LATHE_RETURN_IF_ERROR(addStopIds(*text, out.stopIds));
  if (generation) {
    LATHE_RETURN_IF_ERROR(addStopIds(*generation, out.stopIds));
    LATHE_RETURN_IF_ERROR(addSampling(*generation, out));
  }
  std::sort(out.stopIds.begin(), out.stopIds.end());
  out.stopIds.erase(std::unique(out.stopIds.begin(), out.stopIds.end()),
                    out.stopIds.end());
  return out;
}

StatusOr<GenerationConfig> readGenerationConfig(const std::string &directory) {
  LATHE_ASSIGN_OR_RETURN(JsonDocument config, JsonDocument::read(joinPath(
                                                  directory, "config.json")));
  std::string path = joinPath(directory, "generation_config.json");
  if (!fileExists(path))
    return parseGenerationConfig(config.root(), nullptr);
  LATHE_ASSIGN_OR_RETURN(JsonDocument document, JsonDocument::read(path));
  JsonValue generation = document.root();
  return parseGenerationConfig(config.root(), &generation);
}

} // namespace lathe
