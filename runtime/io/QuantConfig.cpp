#include "runtime/io/QuantConfig.h"

namespace lathe {

std::string_view supportedFormats() {
  return "BF16, F16 and F32; INT4 by AutoRound (auto_round, "
         "auto_round:auto_gptq) or GPTQ without desc_act; NVFP4 by ModelOpt or "
         "compressed-tensors";
}

static Status unsupported(const JsonValue &value, std::string_view what) {
  return value.error(std::string(what) + " is not supported; supported are " +
                     std::string(supportedFormats()));
}

static StatusOr<QuantConfig> parseGptqFields(const JsonValue &value) {
  QuantConfig config{.method = QuantMethod::Gptq};
  LATHE_ASSIGN_OR_RETURN(int64_t bits, value.getInt("bits", 1, 64));
  if (bits != 4)
    return unsupported(value, std::to_string(bits) + "-bit INT");
  LATHE_ASSIGN_OR_RETURN(config.group,
                         value.getInt("group_size", -1, int64_t(1) << 30));
  if (config.group == 0)
    return value.error(
        "group_size: expected a positive integer or -1, found 0");
  LATHE_ASSIGN_OR_RETURN(config.symmetric, value.getBoolOr("sym", true));
  LATHE_ASSIGN_OR_RETURN(config.permuted, value.getBoolOr("desc_act", false));
  return config;
}

static StatusOr<QuantConfig> parseAutoRound(const JsonValue &value) {
  LATHE_ASSIGN_OR_RETURN(std::string type,
                         value.getStringOr("data_type", "int"));
  // Exports of older releases name the packing in "backend".
  LATHE_ASSIGN_OR_RETURN(std::string backend,
                         value.getStringOr("backend", "auto_round:auto_gptq"));
  LATHE_ASSIGN_OR_RETURN(std::string packing,
                         value.getStringOr("packing_format", backend));
  if (type.starts_with("nv_fp"))
    return QuantConfig{.method = QuantMethod::CompressedTensors};
  if (type != "int")
    return unsupported(value, "AutoRound data_type \"" + type + "\"");
  LATHE_ASSIGN_OR_RETURN(QuantConfig config, parseGptqFields(value));
  if (packing == "auto_round:auto_gptq" ||
      packing.starts_with("auto_round:gptq") || packing == "auto")
    config.zerosMinusOne = true;
  else if (packing == "auto_round")
    config.zerosMinusOne = false;
  else
    return unsupported(value, "packing_format \"" + packing + "\"");
  return config;
}

static StatusOr<QuantConfig> parseGptq(const JsonValue &value) {
  LATHE_ASSIGN_OR_RETURN(QuantConfig config, parseGptqFields(value));
  LATHE_ASSIGN_OR_RETURN(std::string format,
                         value.getStringOr("checkpoint_format", "gptq"));
  if (format != "gptq" && format != "gptq_v2")
    return unsupported(value, "checkpoint_format \"" + format + "\"");
  config.zerosMinusOne = format == "gptq";
  return config;
}

static StatusOr<QuantConfig> parseModelOpt(const JsonValue &value) {
  LATHE_ASSIGN_OR_RETURN(std::string algorithm, value.getString("quant_algo"));
  // Under MIXED_PRECISION the modules are told apart by their tensors.
  if (algorithm != "NVFP4" && algorithm != "W4A16_NVFP4" &&
      algorithm != "MIXED_PRECISION")
    return unsupported(value, "quant_algo \"" + algorithm + "\"");
  return QuantConfig{.method = QuantMethod::ModelOpt};
}

StatusOr<QuantConfig> parseQuantConfig(const JsonValue &value) {
  LATHE_ASSIGN_OR_RETURN(auto modelOpt, value.find("quantization"));
  if (modelOpt)
    return parseModelOpt(*modelOpt);
  LATHE_ASSIGN_OR_RETURN(std::string method, value.getString("quant_method"));
  if (method == "auto-round" || method == "intel/auto-round")
    return parseAutoRound(value);
  if (method == "gptq")
    return parseGptq(value);
  if (method == "modelopt" || method == "modelopt_fp4" ||
      method == "modelopt_mixed")
    return parseModelOpt(value);
  if (method != "compressed-tensors")
    return unsupported(value, "quant_method \"" + method + "\"");
  LATHE_ASSIGN_OR_RETURN(std::string format, value.getString("format"));
  if (format != "nvfp4-pack-quantized" && format != "mixed-precision")
    return unsupported(value, "compressed-tensors format \"" + format + "\"");
  return QuantConfig{.method = QuantMethod::CompressedTensors};
}

StatusOr<std::optional<JsonValue>> findQuantConfig(const JsonValue &config) {
  LATHE_ASSIGN_OR_RETURN(auto top, config.find("quantization_config"));
  if (top)
    return top;
  LATHE_ASSIGN_OR_RETURN(auto text, config.find("text_config"));
  if (!text)
    return std::optional<JsonValue>();
  return text->find("quantization_config");
}

} // namespace lathe
