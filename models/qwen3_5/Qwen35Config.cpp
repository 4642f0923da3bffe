#include "models/qwen3_5/Qwen35.h"

namespace lathe::models {

namespace {
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxHeads = 1 << 12;
constexpr int64_t kMaxLayers = 1 << 12;
} // namespace

/// A positive integer field.
static Status read(const JsonValue &text, std::string_view key, int64_t max,
                   int64_t &out) {
  LATHE_ASSIGN_OR_RETURN(out, text.getInt(key, 1, max));
  return absl::OkStatus();
}

static Status readLayers(const JsonValue &text, Qwen35Config &config) {
  LATHE_ASSIGN_OR_RETURN(int64_t count,
                         text.getInt("num_hidden_layers", 1, kMaxLayers));
  LATHE_ASSIGN_OR_RETURN(auto types, text.find("layer_types"));
  if (!types) {
    LATHE_ASSIGN_OR_RETURN(
        int64_t interval,
        text.getIntOr("full_attention_interval", 4, 1, kMaxLayers));
    for (int64_t i = 0; i < count; ++i)
      config.fullAttention.push_back((i + 1) % interval == 0);
    return absl::OkStatus();
  }
  LATHE_ASSIGN_OR_RETURN(auto elements, types->elements());
  if (int64_t(elements.size()) != count)
    return types->error(
        "expected num_hidden_layers = " + std::to_string(count) +
        " entries, found " + std::to_string(elements.size()));
  for (const JsonValue &element : elements) {
    LATHE_ASSIGN_OR_RETURN(std::string kind, element.toString());
    if (kind != "full_attention" && kind != "linear_attention")
      return element.mismatch("\"full_attention\" or \"linear_attention\"");
    config.fullAttention.push_back(kind == "full_attention");
  }
  return absl::OkStatus();
}

static Status readRope(const JsonValue &text, Qwen35Config &config) {
  LATHE_ASSIGN_OR_RETURN(auto parameters, text.find("rope_parameters"));
  const JsonValue &rope = parameters ? *parameters : text;
  LATHE_ASSIGN_OR_RETURN(std::string type,
                         rope.getStringOr("rope_type", "default"));
  if (type != "default")
    return rope.error("rope_type: expected \"default\", found \"" + type +
                      "\"; scaled positions are not supported");
  LATHE_ASSIGN_OR_RETURN(config.ropeTheta, rope.getNumberOr("rope_theta", 1e7));
  LATHE_ASSIGN_OR_RETURN(double fallback,
                         text.getNumberOr("partial_rotary_factor", 0.25));
  LATHE_ASSIGN_OR_RETURN(double factor,
                         rope.getNumberOr("partial_rotary_factor", fallback));
  config.rotaryDim = int64_t(double(config.headDim) * factor);
  if (!(config.ropeTheta > 0))
    return rope.error("rope_theta: expected a positive number");
  if (!(factor > 0) || config.rotaryDim < 2 || config.rotaryDim % 2 != 0 ||
      config.rotaryDim > config.headDim)
    return rope.error("partial_rotary_factor: expected a factor that rotates "
                      "an even number of the " +
                      std::to_string(config.headDim) + " head dimensions");
  return absl::OkStatus();
}

/// Fields whose other values would change the math.
static Status checkFixed(const JsonValue &text) {
  LATHE_ASSIGN_OR_RETURN(std::string act,
                         text.getStringOr("hidden_act", "silu"));
  if (act != "silu")
    return text.error("hidden_act: expected \"silu\", found \"" + act + "\"");
  LATHE_ASSIGN_OR_RETURN(bool bias, text.getBoolOr("attention_bias", false));
  if (bias)
    return text.error("attention_bias: expected false, found true");
  LATHE_ASSIGN_OR_RETURN(bool gate, text.getBoolOr("attn_output_gate", true));
  if (!gate)
    return text.error("attn_output_gate: expected true, found false");
  LATHE_ASSIGN_OR_RETURN(std::string outputGate,
                         text.getStringOr("output_gate_type", "swish"));
  if (outputGate != "swish" && outputGate != "silu")
    return text.error("output_gate_type: expected \"swish\", found \"" +
                      outputGate + "\"");
  return absl::OkStatus();
}

static Status checkRatios(const JsonValue &text, const Qwen35Config &config) {
  if (config.heads % config.kvHeads != 0)
    return text.error("num_attention_heads: expected a multiple of "
                      "num_key_value_heads = " +
                      std::to_string(config.kvHeads) + ", found " +
                      std::to_string(config.heads));
  if (config.valueHeads % config.keyHeads != 0)
    return text.error("linear_num_value_heads: expected a multiple of "
                      "linear_num_key_heads = " +
                      std::to_string(config.keyHeads) + ", found " +
                      std::to_string(config.valueHeads));
  if (!(config.eps > 0))
    return text.error("rms_norm_eps: expected a positive number");
  return absl::OkStatus();
}

StatusOr<Qwen35Config> parseQwen35(const JsonValue &root) {
  LATHE_ASSIGN_OR_RETURN(auto nested, root.find("text_config"));
  const JsonValue &text = nested ? *nested : root;
  Qwen35Config c;
  LATHE_RETURN_IF_ERROR(checkFixed(text));
  LATHE_RETURN_IF_ERROR(read(text, "vocab_size", 1 << 24, c.vocab));
  LATHE_RETURN_IF_ERROR(read(text, "hidden_size", kMaxWidth, c.hidden));
  LATHE_RETURN_IF_ERROR(
      read(text, "intermediate_size", kMaxWidth, c.intermediate));
  LATHE_RETURN_IF_ERROR(read(text, "num_attention_heads", kMaxHeads, c.heads));
  LATHE_RETURN_IF_ERROR(
      read(text, "num_key_value_heads", kMaxHeads, c.kvHeads));
  LATHE_ASSIGN_OR_RETURN(
      c.headDim, text.getIntOr("head_dim", c.hidden / c.heads, 1, 1 << 12));
  LATHE_RETURN_IF_ERROR(
      read(text, "linear_num_key_heads", kMaxHeads, c.keyHeads));
  LATHE_RETURN_IF_ERROR(
      read(text, "linear_num_value_heads", kMaxHeads, c.valueHeads));
  LATHE_RETURN_IF_ERROR(read(text, "linear_key_head_dim", 1 << 12, c.keyDim));
  LATHE_RETURN_IF_ERROR(
      read(text, "linear_value_head_dim", 1 << 12, c.valueDim));
  LATHE_ASSIGN_OR_RETURN(c.taps,
                         text.getIntOr("linear_conv_kernel_dim", 4, 2, 64));
  LATHE_ASSIGN_OR_RETURN(c.eps, text.getNumberOr("rms_norm_eps", 1e-6));
  LATHE_RETURN_IF_ERROR(readLayers(text, c));
  LATHE_RETURN_IF_ERROR(readRope(text, c));
  LATHE_RETURN_IF_ERROR(checkRatios(text, c));
  LATHE_ASSIGN_OR_RETURN(bool rootTied,
                         root.getBoolOr("tie_word_embeddings", false));
  LATHE_ASSIGN_OR_RETURN(c.tiedHead,
                         text.getBoolOr("tie_word_embeddings", rootTied));
  LATHE_ASSIGN_OR_RETURN(c.mtpLayers,
                         text.getIntOr("mtp_num_hidden_layers", 0, 0, 1));
  LATHE_ASSIGN_OR_RETURN(
      c.maxPositions,
      text.getIntOr("max_position_embeddings", 262144, 1, 1 << 30));
  return c;
}

} // namespace lathe::models
