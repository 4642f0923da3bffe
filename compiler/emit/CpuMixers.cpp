#include "compiler/emit/CpuKernels.h"

#include "compiler/device/cpu/scratch_mixers.h"
#include "compiler/emit/MixerConfig.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using llvm::formatv;

namespace lathe {

/// Tokens per chunk of the chunked delta rule: work inside a chunk grows with
/// it, and 32 measured faster than 64 (tests/perf/MixerBench).
static constexpr int kDeltaChunk = 32;

LogicalResult printDelta(CpuKernel &kernel) {
  auto match = matchDelta(kernel.func);
  if (failed(match))
    return failure();
  kernel.config.line("using namespace lathe;");
  kernel.config.line("");
  {
    ConfigPrinter config(kernel.config);
    addDelta(config, *match);
    config.add("kChunk", int64_t(kDeltaChunk));
  }
  graph::RecurrentType state = match->rule.getState().getType();
  DeltaShape shape{int(match->rule.getKeyHeads()),
                   int(state.getHeads()),
                   int(state.getKeyDim()),
                   int(state.getValueDim()),
                   kDeltaChunk,
                   state.getReplay()};
  int64_t tokens = kernel.schedule.getTokens();
  bool prefill = kernel.schedule.getPrefill();
  kernel.result.localBytes = prefill
                                 ? deltaChunkScratch(shape).bytes
                                 : deltaStepScratch(shape, int(tokens)).bytes;
  std::string call = (prefill ? "deltaChunk<Cfg>"
                              : formatv("deltaStep<Cfg, {0}>", tokens).str()) +
                     "(ctx";
  for (Value operand : match->operands())
    call += ", " + kernel.floats(operand);
  unsigned result = resultOf(kernel.func, match->rule.getResult());
  kernel.code.line(call + ", (float *)args[" +
                   std::to_string(kernel.operands.ofResult(result)) + "]);");
  return success();
}

LogicalResult printAttention(CpuKernel &kernel) {
  auto match = matchAttention(kernel.func);
  if (failed(match))
    return failure();
  kernel.config.line("using namespace lathe;");
  kernel.config.line("");
  {
    ConfigPrinter config(kernel.config);
    addAttention(config, *match, "float");
  }
  graph::KvType kv = match->op.getState().getType();
  AttentionShape shape{int(match->heads), int(kv.getHeads()),
                       int(kv.getHeadDim()), int(match->q.rope.getRotaryDim()),
                       int(sizeof(float))};
  int64_t tokens = kernel.schedule.getTokens();
  bool prefill = kernel.schedule.getPrefill();
  kernel.result.localBytes =
      prefill ? attentionPrefillScratch(shape).bytes
              : attentionDecodeScratch(shape, int(tokens)).bytes;
  CodeWriter &code = kernel.code;
  code.line("float *keys = " + kernel.floats(match->op.getState()) + ";");
  code.line(formatv("float *values = keys + {0}ll * ctx->capacity;",
                    kv.getHeads() * kv.getHeadDim())
                .str());
  code.line(
      formatv("{0}(ctx, {1}, {2}, {3}, {4}, {5}, keys, values, "
              "(float *)args[{6}]);",
              prefill ? "attentionPrefill<Cfg>"
                      : formatv("attentionDecode<Cfg, {0}>", tokens).str(),
              kernel.floats(match->q.source), kernel.floats(match->k.source),
              kernel.floats(match->op.getV()),
              kernel.floats(match->q.norm.getWeight()),
              kernel.floats(match->k.norm.getWeight()),
              kernel.operands.ofResult(
                  resultOf(kernel.func, match->op.getResult())))
          .str());
  return success();
}

} // namespace lathe
