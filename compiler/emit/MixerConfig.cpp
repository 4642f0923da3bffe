#include "compiler/emit/MixerConfig.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using llvm::formatv;

namespace lathe {

void ConfigPrinter::add(StringRef name, int64_t value) {
  code.line(formatv("static constexpr int {0} = {1};", name, value).str());
}
void ConfigPrinter::add(StringRef name, double value) {
  code.line(
      formatv("static constexpr float {0} = {1};", name, floatLiteral(value))
          .str());
}
void ConfigPrinter::flag(StringRef name, bool value) {
  code.line(formatv("static constexpr bool {0} = {1};", name,
                    value ? "true" : "false")
                .str());
}
void ConfigPrinter::expression(StringRef name, const Twine &text) {
  code.line("static constexpr int " + name + " = " + text + ";");
}

void addDelta(ConfigPrinter &config, DeltaMatch &match) {
  graph::RecurrentType state = match.rule.getState().getType();
  config.add("kKeyHeads", int64_t(match.rule.getKeyHeads()));
  config.add("kValueHeads", state.getHeads());
  config.add("kKeyDim", state.getKeyDim());
  config.add("kValueDim", state.getValueDim());
  config.add("kTaps", match.conv.getWeight().getType().getDimSize(1));
  config.add("kQkEps", match.q.getEps().convertToDouble());
  config.add("kQScale", match.q.getScale().convertToDouble());
  config.flag("kReplay", state.getReplay());
}

void addAttention(ConfigPrinter &config, AttentionMatch &match, StringRef kv) {
  graph::KvType type = match.op.getState().getType();
  auto stride = [](Value value) {
    return formatv("strideOf({0})", graph::widthOf(value)).str();
  };
  config.add("kHeads", match.heads);
  config.add("kKvHeads", type.getHeads());
  config.add("kHeadDim", type.getHeadDim());
  config.add("kRotaryDim", int64_t(match.q.rope.getRotaryDim()));
  config.expression("kQStride", stride(match.q.source));
  config.add("kQHeadStride", match.q.headStride);
  config.expression("kKStride", stride(match.op.getK()));
  config.expression("kVStride", stride(match.op.getV()));
  config.expression("kOutStride", stride(match.op.getResult()));
  config.add("kScale", match.op.getScale().convertToDouble());
  config.add("kNormEps", match.q.norm.getEps().convertToDouble());
  config.flag("kQkNorm", true);
  config.flag("kNormPlusOne", bool(match.q.norm.getPlusOne()));
  config.raw("using Kv = " + kv + ";");
  std::string values;
  for (double f : inverseFrequencies(match.q.rope))
    values += (values.empty() ? "" : ", ") + floatLiteral(f);
  config.raw(formatv("static constexpr float kInvFreq[{0}] = {{{1}};",
                     int64_t(match.q.rope.getRotaryDim()) / 2, values)
                 .str());
}

} // namespace lathe
