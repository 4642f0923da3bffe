#include "models/qwen3_5/Qwen35.h"

#include <cmath>

using namespace mlir;

namespace lathe::models {

namespace {

/// Rows of logits at once: each is as wide as the vocabulary.
constexpr int64_t kHeadTokens = 16;

class Qwen35Builder {
public:
  Qwen35Builder(MLIRContext *context, const Qwen35Config &config,
                const WeightCatalog &catalog)
      : b(context, catalog), c(config) {}

  StatusOr<OwningOpRef<ModuleOp>> build(bool hasMtp) {
    buildTrunk();
    buildHead();
    if (hasMtp)
      buildMtp();
    return b.finish();
  }

private:
  void buildTrunk();
  void buildHead();
  void buildMtp();
  Value attention(Value x, Value position, const std::string &layer);
  Value deltaNet(Value x, const std::string &layer);
  Value mlp(Value x, const std::string &layer);
  Value norm(Value x, const std::string &name, int64_t group) {
    return b.rmsNorm(x, name + ".weight", group, c.eps, /*plusOne=*/true);
  }

  ModelBuilder b;
  const Qwen35Config &c;
  SmallVector<Value> states; ///< updated states of the open function
};

} // namespace

Value Qwen35Builder::attention(Value x, Value position,
                               const std::string &layer) {
  auto &ops = b.ops();
  Location loc = b.location();
  const std::string prefix = layer + ".self_attn.";
  Value h = norm(x, layer + ".input_layernorm", c.hidden);
  // Rows of q_proj hold, per head, the query and then the output gate.
  Value qg = b.linear(h, prefix + "q_proj", 2 * c.heads * c.headDim);
  Value k = b.linear(h, prefix + "k_proj", c.kvHeads * c.headDim);
  Value v = b.linear(h, prefix + "v_proj", c.kvHeads * c.headDim);
  Value q = b.slice(qg, 2 * c.headDim, 0, c.headDim);
  Value gate = b.slice(qg, 2 * c.headDim, c.headDim, c.headDim);
  auto place = [&](Value heads, const char *name) -> Value {
    return graph::RopeOp::create(
        ops, loc, heads.getType(), norm(heads, prefix + name, c.headDim),
        position, ops.getI64IntegerAttr(c.headDim),
        ops.getI64IntegerAttr(c.rotaryDim), ops.getF64FloatAttr(c.ropeTheta));
  };
  Value qr = place(q, "q_norm");
  Value kr = place(k, "k_norm");
  auto kvType =
      graph::KvType::get(ops.getContext(), c.kvHeads, c.headDim, c.halfKv);
  Value kv = b.addState(layer + ".kv", kvType);
  double scale = 1.0 / std::sqrt(double(c.headDim));
  auto mixed = graph::AttentionOp::create(
      ops, loc, TypeRange{q.getType(), kvType}, qr, kr, v, kv, position,
      ops.getF64FloatAttr(scale));
  states.push_back(mixed.getNext());
  Value gated = b.mul(mixed.getResult(), b.sigmoid(gate));
  return b.add(x, b.linear(gated, prefix + "o_proj", c.hidden));
}

Value Qwen35Builder::deltaNet(Value x, const std::string &layer) {
  auto &ops = b.ops();
  Location loc = b.location();
  const std::string prefix = layer + ".linear_attn.";
  const int64_t keys = c.keyHeads * c.keyDim;
  const int64_t values = c.valueHeads * c.valueDim;
  const int64_t channels = 2 * keys + values;
  Value h = norm(x, layer + ".input_layernorm", c.hidden);
  Value qkv = b.linear(h, prefix + "in_proj_qkv", channels);
  Value z = b.linear(h, prefix + "in_proj_z", values);
  Value bb = b.linear(h, prefix + "in_proj_b", c.valueHeads);
  Value a = b.linear(h, prefix + "in_proj_a", c.valueHeads);

  auto convType = graph::ConvType::get(ops.getContext(), c.taps - 1, channels);
  auto conv = graph::ShortConvOp::create(
      ops, loc, TypeRange{qkv.getType(), convType}, qkv,
      b.matrix(prefix + "conv1d.weight", channels, c.taps),
      b.addState(layer + ".conv", convType));
  states.push_back(conv.getNext());
  auto unit = [&](int64_t offset, double scale) -> Value {
    Value heads = b.slice(conv.getResult(), channels, offset, keys);
    return graph::L2NormOp::create(
        ops, loc, heads.getType(), heads, ops.getI64IntegerAttr(c.keyDim),
        ops.getF64FloatAttr(1e-6), ops.getF64FloatAttr(scale));
  };
  Value q = unit(0, 1.0 / std::sqrt(double(c.keyDim)));
  Value k = unit(keys, 1.0);
  Value v = b.slice(conv.getResult(), channels, 2 * keys, values);
  auto gates = graph::DeltaGatesOp::create(
      ops, loc, TypeRange{a.getType(), a.getType()}, a, bb,
      b.vector(prefix + "A_log", c.valueHeads),
      b.vector(prefix + "dt_bias", c.valueHeads));
  auto stateType = graph::RecurrentType::get(ops.getContext(), c.valueHeads,
                                             c.keyDim, c.valueDim);
  auto delta = graph::DeltaRuleOp::create(
      ops, loc, TypeRange{v.getType(), stateType}, q, k, v, gates.getDecay(),
      gates.getBeta(), b.addState(layer + ".recurrent", stateType),
      ops.getI64IntegerAttr(c.keyHeads));
  states.push_back(delta.getNext());

  // The one norm of the family whose weight is not 1 + w.
  Value normed = b.rmsNorm(delta.getResult(), prefix + "norm.weight",
                           c.valueDim, c.eps, /*plusOne=*/false);
  Value gated = b.mul(normed, b.silu(z));
  return b.add(x, b.linear(gated, prefix + "out_proj", c.hidden));
}

Value Qwen35Builder::mlp(Value x, const std::string &layer) {
  Value h = norm(x, layer + ".post_attention_layernorm", c.hidden);
  return b.add(x, b.swigluMlp(h, layer + ".mlp", c.intermediate));
}

void Qwen35Builder::buildTrunk() {
  b.beginFunction("trunk", {b.tokens(), b.ops().getIndexType()});
  states.clear();
  Value position = b.input(1);
  Value x = b.embedding(b.input(0), "embed_tokens", c.vocab, c.hidden);
  for (size_t i = 0; i < c.fullAttention.size(); ++i) {
    std::string layer = "layers." + std::to_string(i);
    x = c.fullAttention[i] ? attention(x, position, layer) : deltaNet(x, layer);
    x = mlp(x, layer);
  }
  b.endFunction({norm(x, "norm", c.hidden)}, states);
}

void Qwen35Builder::buildHead() {
  b.beginFunction("head", {b.activation(c.hidden)});
  b.limitTokens(kHeadTokens);
  b.endFunction(
      {b.linear(b.input(0), c.tiedHead ? "embed_tokens" : "lm_head", c.vocab)},
      {});
}

void Qwen35Builder::buildMtp() {
  b.beginFunction("mtp",
                  {b.tokens(), b.activation(c.hidden), b.ops().getIndexType()});
  states.clear();
  Value e = b.embedding(b.input(0), "embed_tokens", c.vocab, c.hidden);
  Value pair = b.concat({norm(e, "mtp.pre_fc_norm_embedding", c.hidden),
                         norm(b.input(1), "mtp.pre_fc_norm_hidden", c.hidden)});
  Value x = b.linear(pair, "mtp.fc", c.hidden);
  x = attention(x, b.input(2), "mtp.layers.0");
  x = mlp(x, "mtp.layers.0");
  b.endFunction({norm(x, "mtp.norm", c.hidden)}, states);
}

StatusOr<OwningOpRef<ModuleOp>> buildQwen35(MLIRContext *context,
                                            const Qwen35Config &config,
                                            bool hasMtp,
                                            const WeightCatalog &catalog) {
  return Qwen35Builder(context, config, catalog).build(hasMtp);
}

} // namespace lathe::models
