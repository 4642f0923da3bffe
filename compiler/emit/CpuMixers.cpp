#include "compiler/emit/CpuKernels.h"

#include "compiler/device/cpu/scratch_mixers.h"

#include "llvm/Support/FormatVariadic.h"

#include <cmath>

using namespace mlir;
using llvm::formatv;

namespace lathe {

/// Tokens per chunk of the chunked delta rule: work inside a chunk grows with
/// it, and 32 measured faster than 64 (tests/perf/MixerBench).
static constexpr int kDeltaChunk = 32;

namespace {

/// `static constexpr` members of a config struct.
class ConfigPrinter {
public:
  ConfigPrinter(CodeWriter &code, StringRef name) : code(code) {
    code.line("using namespace lathe;");
    code.line("");
    code.open("struct " + name + " {");
  }
  ~ConfigPrinter() { code.close("};"); }
  void add(StringRef name, int64_t value) {
    code.line(formatv("static constexpr int {0} = {1};", name, value).str());
  }
  void add(StringRef name, double value) {
    code.line(
        formatv("static constexpr float {0} = {1};", name, floatLiteral(value))
            .str());
  }
  void flag(StringRef name, bool value) {
    code.line(formatv("static constexpr bool {0} = {1};", name,
                      value ? "true" : "false")
                  .str());
  }
  void raw(const Twine &text) { code.line(text); }

private:
  CodeWriter &code;
};

/// The body of a delta kernel, matched.
struct DeltaMatch {
  graph::DeltaRuleOp rule;
  graph::DeltaGatesOp gates;
  graph::ShortConvOp conv;
  graph::L2NormOp q, k;
};

} // namespace

/// Requires `value` to be columns [offset, offset + width) of `of`.
static bool isRange(Value value, Value of, int64_t offset) {
  auto slice = value.getDefiningOp<graph::SliceOp>();
  return slice && slice.getX() == of &&
         int64_t(slice.getGroup()) == graph::widthOf(of) &&
         int64_t(slice.getOffset()) == offset;
}

static FailureOr<DeltaMatch> matchDelta(kernel::FuncOp func, Block &body) {
  DeltaMatch m;
  auto rules = body.getOps<graph::DeltaRuleOp>();
  if (!rules.empty()) {
    m.rule = *rules.begin();
    m.gates = m.rule.getDecay().getDefiningOp<graph::DeltaGatesOp>();
    m.q = m.rule.getQ().getDefiningOp<graph::L2NormOp>();
    m.k = m.rule.getK().getDefiningOp<graph::L2NormOp>();
    if (auto v = m.rule.getV().getDefiningOp<graph::SliceOp>())
      m.conv = v.getX().getDefiningOp<graph::ShortConvOp>();
  }
  auto fail = [&](const char *what) {
    return FailureOr<DeltaMatch>(func.emitOpError()
                                 << "the delta kernel needs " << what);
  };
  if (!m.rule || !m.gates || !m.q || !m.k || !m.conv ||
      m.rule.getBeta() != m.gates.getBeta())
    return fail("short_conv, l2_norm of q and k, delta_gates and delta_rule");
  Value c = m.conv.getResult();
  int64_t keys = graph::widthOf(m.rule.getQ());
  if (!isRange(m.q.getX(), c, 0) || !isRange(m.k.getX(), c, keys) ||
      !isRange(m.rule.getV(), c, 2 * keys) ||
      graph::widthOf(c) != 2 * keys + graph::widthOf(m.rule.getV()))
    return fail("q, k and v side by side in the convolution's output");
  graph::RecurrentType state = m.rule.getState().getType();
  if (int64_t(m.q.getGroup()) != state.getKeyDim() ||
      int64_t(m.k.getGroup()) != state.getKeyDim() ||
      m.k.getScale().convertToDouble() != 1.0 || m.q.getEps() != m.k.getEps())
    return fail("l2_norm over heads with one eps and an unscaled key");
  if (state.getKeyDim() % LATHE_LANES || state.getValueDim() % LATHE_LANES)
    return fail("head sizes that are multiples of 16");
  return m;
}

LogicalResult printDelta(CpuKernel &kernel) {
  auto match = matchDelta(kernel.func, kernel.body);
  if (failed(match))
    return failure();
  graph::RecurrentType state = match->rule.getState().getType();
  int64_t keyHeads = match->rule.getKeyHeads();
  {
    ConfigPrinter config(kernel.config, "Cfg");
    config.add("kKeyHeads", keyHeads);
    config.add("kValueHeads", state.getHeads());
    config.add("kKeyDim", state.getKeyDim());
    config.add("kValueDim", state.getValueDim());
    config.add("kTaps", match->conv.getWeight().getType().getDimSize(1));
    config.add("kQkEps", match->q.getEps().convertToDouble());
    config.add("kQScale", match->q.getScale().convertToDouble());
    config.add("kChunk", int64_t(kDeltaChunk));
  }
  DeltaShape shape{int(keyHeads), int(state.getHeads()), int(state.getKeyDim()),
                   int(state.getValueDim()), kDeltaChunk};
  int64_t tokens = kernel.schedule.getTokens();
  bool prefill = kernel.schedule.getPrefill();
  kernel.result.localBytes = prefill
                                 ? deltaChunkScratch(shape).bytes
                                 : deltaStepScratch(shape, int(tokens)).bytes;
  std::string function = prefill ? "deltaChunk<Cfg>"
                                 : formatv("deltaStep<Cfg, {0}>", tokens).str();
  Value operands[] = {match->conv.getX(),     match->gates.getA(),
                      match->gates.getB(),    match->conv.getWeight(),
                      match->gates.getALog(), match->gates.getDtBias(),
                      match->conv.getState(), match->rule.getState()};
  std::string call = function + "(ctx";
  for (Value operand : operands)
    call += ", " + kernel.floats(operand);
  unsigned result = 0;
  for (auto [i, value] :
       llvm::enumerate(kernel.body.getTerminator()->getOperands()))
    if (value == match->rule.getResult())
      result = unsigned(i);
  kernel.code.line(call + ", (float *)args[" +
                   std::to_string(kernel.operands.ofResult(result)) + "]);");
  return success();
}

namespace {

/// q or k of an attention kernel: rope(rms_norm(slice(argument))).
struct PlacedHeads {
  graph::RopeOp rope;
  graph::RmsNormOp norm;
  Value source;           ///< the kernel argument
  int64_t headStride = 0; ///< columns between heads in `source`
};

} // namespace

static FailureOr<PlacedHeads> matchHeads(kernel::FuncOp func, Value value,
                                         int64_t headDim) {
  PlacedHeads m;
  m.rope = value.getDefiningOp<graph::RopeOp>();
  if (m.rope)
    m.norm = m.rope.getX().getDefiningOp<graph::RmsNormOp>();
  if (!m.norm || int64_t(m.rope.getHeadDim()) != headDim ||
      m.norm.getWeight().getType().getDimSize(0) != headDim)
    return FailureOr<PlacedHeads>(
        func.emitOpError()
        << "the attention kernel needs rope of a norm per head on q and k");
  m.source = m.norm.getX();
  m.headStride = headDim;
  if (auto slice = m.source.getDefiningOp<graph::SliceOp>()) {
    if (int64_t(slice.getSize()) != headDim || slice.getOffset() != 0)
      return FailureOr<PlacedHeads>(
          func.emitOpError() << "the attention kernel needs heads at the start "
                                "of their column groups");
    m.headStride = slice.getGroup();
    m.source = slice.getX();
  }
  return m;
}

static void printFrequencies(ConfigPrinter &config, graph::RopeOp rope) {
  int64_t half = rope.getRotaryDim() / 2;
  std::string values;
  for (int64_t i = 0; i < half; ++i) {
    double f = std::pow(rope.getTheta().convertToDouble(),
                        -2.0 * double(i) / double(rope.getRotaryDim()));
    values += (i ? ", " : "") + floatLiteral(f);
  }
  config.raw(
      formatv("static constexpr float kInvFreq[{0}] = {{{1}};", half, values)
          .str());
}

LogicalResult printAttention(CpuKernel &kernel) {
  auto op = *kernel.body.getOps<graph::AttentionOp>().begin();
  graph::KvType kv = op.getState().getType();
  int64_t headDim = kv.getHeadDim();
  int64_t heads = graph::widthOf(op.getQ()) / headDim;
  auto q = matchHeads(kernel.func, op.getQ(), headDim);
  auto k = matchHeads(kernel.func, op.getK(), headDim);
  if (failed(q) || failed(k))
    return failure();
  if (headDim % LATHE_LANES != 0 || heads % kv.getHeads() != 0 ||
      !isa<BlockArgument>(op.getV()) || k->headStride != headDim ||
      q->rope.getRotaryDim() != k->rope.getRotaryDim() ||
      q->rope.getTheta() != k->rope.getTheta() ||
      q->norm.getPlusOne() != k->norm.getPlusOne() ||
      q->norm.getEps() != k->norm.getEps())
    return kernel.func.emitOpError()
           << "the attention kernel needs head sizes that are multiples of 16, "
              "whole query groups, dense k and v, and the same norm and rope "
              "on q and k";
  int64_t rotary = q->rope.getRotaryDim();
  {
    ConfigPrinter config(kernel.config, "Cfg");
    config.add("kHeads", heads);
    config.add("kKvHeads", kv.getHeads());
    config.add("kHeadDim", headDim);
    config.add("kRotaryDim", rotary);
    config.raw(formatv("static constexpr int kQStride = strideOf({0});",
                       graph::widthOf(q->source))
                   .str());
    config.add("kQHeadStride", q->headStride);
    for (StringRef name : {"kKStride", "kVStride"})
      config.raw(formatv("static constexpr int {0} = strideOf({1});", name,
                         graph::widthOf(op.getK()))
                     .str());
    config.raw(formatv("static constexpr int kOutStride = strideOf({0});",
                       graph::widthOf(op.getResult()))
                   .str());
    config.add("kScale", op.getScale().convertToDouble());
    config.add("kNormEps", q->norm.getEps().convertToDouble());
    config.flag("kQkNorm", true);
    config.flag("kNormPlusOne", bool(q->norm.getPlusOne()));
    config.raw("using Kv = float;");
    printFrequencies(config, q->rope);
  }
  AttentionShape shape{int(heads), int(kv.getHeads()), int(headDim),
                       int(rotary), int(sizeof(float))};
  int64_t tokens = kernel.schedule.getTokens();
  bool prefill = kernel.schedule.getPrefill();
  kernel.result.localBytes =
      prefill ? attentionPrefillScratch(shape).bytes
              : attentionDecodeScratch(shape, int(tokens)).bytes;
  unsigned result = 0;
  for (auto [i, value] :
       llvm::enumerate(kernel.body.getTerminator()->getOperands()))
    if (value == op.getResult())
      result = unsigned(i);
  CodeWriter &code = kernel.code;
  code.line("float *keys = " + kernel.floats(op.getState()) + ";");
  code.line(formatv("float *values = keys + {0}ll * ctx->capacity;",
                    kv.getHeads() * headDim)
                .str());
  code.line(
      formatv("{0}(ctx, {1}, {2}, {3}, {4}, {5}, keys, values, "
              "(float *)args[{6}]);",
              prefill ? "attentionPrefill<Cfg>"
                      : formatv("attentionDecode<Cfg, {0}>", tokens).str(),
              kernel.floats(q->source), kernel.floats(k->source),
              kernel.floats(op.getV()), kernel.floats(q->norm.getWeight()),
              kernel.floats(k->norm.getWeight()),
              kernel.operands.ofResult(result))
          .str());
  return success();
}

} // namespace lathe
