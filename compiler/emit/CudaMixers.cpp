#include "compiler/emit/CudaKernels.h"

#include "compiler/device/cuda/attention_sizes.h"
#include "compiler/device/cuda/delta_sizes.h"
#include "compiler/device/cuda/linear_sizes.h"
#include "compiler/emit/MixerConfig.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using llvm::formatv;

namespace lathe {

static CudaDeltaShape shapeOf(DeltaMatch &match) {
  graph::RecurrentType state = match.rule.getState().getType();
  return {int(match.rule.getKeyHeads()),
          int(state.getHeads()),
          int(state.getKeyDim()),
          int(state.getValueDim()),
          int(match.conv.getWeight().getType().getDimSize(1)),
          state.getReplay()};
}

LogicalResult printCudaDelta(CudaKernel &kernel) {
  auto match = matchDelta(kernel.func);
  if (failed(match))
    return failure();
  const int tokens = int(kernel.schedule.getTokens());
  {
    ConfigPrinter config(kernel.config);
    addDelta(config, *match);
    if (!kernel.schedule.getPrefill())
      config.add("kTokens", int64_t(tokens));
    else if (match->rule.getState().getType().getReplay())
      config.add("kTokens", int64_t(1)); // what deltaSettle is sized for
  }
  kernel.config.line("");
  std::string call = "<Cfg>(ctx";
  for (Value operand : match->operands())
    call += ", " + kernel.floats(operand);
  call += formatv(
      ", (float *)args[{0}]);",
      kernel.operands.ofResult(resultOf(kernel.func, match->rule.getResult())));
  const CudaDeltaShape shape = shapeOf(*match);
  auto entry = [&](StringRef suffix, StringRef function, EmittedStage stage) {
    kernel.openEntry(suffix, std::move(stage));
    kernel.code.line(function + call);
    kernel.code.close();
  };
  if (!kernel.schedule.getPrefill()) {
    const int64_t sms = kernel.cuda.getBlocks() / kernel.cuda.getResident();
    const int shared =
        deltaStepBlocks(shape) <= sms
            ? deltaStepSharedSpread(shape, tokens, kernel.sharedPerBlock)
            : deltaStepShared(shape, tokens);
    entry("", "deltaStep",
          {.threads = deltaStepThreads(shape),
           .blocks = deltaStepBlocks(shape),
           .dynamicShared = shared,
           .resident = deltaStepResident(shape, tokens)});
    // A round, which replays, is launch by launch.
    if (shape.replay)
      return success();
    EmittedStepPart &step = kernel.result.step;
    std::string operands;
    for (Value operand : match->operands())
      operands += kernel.floats(operand) + ", ";
    step.call = formatv("const auto args = ops.template operands<{0}>(); "
                        "deltaStepStage<{1}::Cfg>(step, ctx, "
                        "DeltaArgs{{{2}(float *)args[{3}]});",
                        kernel.operandCount(), kernel.scope(), operands,
                        kernel.operands.ofResult(
                            resultOf(kernel.func, match->rule.getResult())));
    // Of those, all but the warp that fetches take part in a stage.
    const int threads = 32 * (int(kernel.cuda.getWarps()) + kMatvecFinishers);
    step.sharedBytes =
        deltaStepTeamsIn(shape, threads) * deltaStepTeamBytes(shape, tokens);
    return success();
  }
  kernel.result.sharedBytes = deltaScratch(shape, tokens);
  if (shape.replay) {
    entry("_settle", "deltaSettle",
          {.threads = deltaStepThreads(shape),
           .blocks = deltaStepBlocks(shape),
           .dynamicShared = deltaStepShared(shape, 1),
           .resident = deltaStepResident(shape, 1)});
    kernel.code.line("");
  }
  entry("_prepare", "deltaPrepare",
        {.threads = kDeltaPrepareThreads,
         .blocks = deltaPrepareBlocks(shape, tokens),
         .dynamicShared = deltaPrepareShared(shape)});
  kernel.code.line("");
  entry("", "deltaScan",
        {.threads = deltaScanThreads(shape),
         .blocks = deltaScanBlocks(shape),
         .dynamicShared = deltaScanShared(shape)});
  return success();
}

/// Operands in the order of AttentionArgs, declared as `attention`.
static void printAttentionArgs(CudaKernel &kernel, AttentionMatch &match) {
  graph::KvType kv = match.op.getState().getType();
  CodeWriter &code = kernel.code;
  code.line("Cfg::Kv *keys = (Cfg::Kv *)" + kernel.arg(match.op.getState()) +
            ";");
  code.line(
      formatv(
          "AttentionArgs<Cfg> attention{{{0}, {1}, {2}, {3}, {4}, "
          "keys, keys + {5}ll * ctx.capacity, (float *)args[{6}]};",
          kernel.floats(match.q.source), kernel.floats(match.k.source),
          kernel.floats(match.op.getV()),
          kernel.floats(match.q.norm.getWeight()),
          kernel.floats(match.k.norm.getWeight()),
          kv.getHeads() * kv.getHeadDim(),
          kernel.operands.ofResult(resultOf(kernel.func, match.op.getResult())))
          .str());
}

/// The partial results of positions that a cache may hold.
static void addDecodeScratch(const AttentionDecodeShape &shape,
                             EmittedKernel &result) {
  const int64_t each =
      int64_t(shape.heads.kvHeads) * shape.rows() * shape.partialFloats() * 4;
  const int64_t run = int64_t(shape.leaf()) * shape.run();
  result.bytesPerPosition = (each + run - 1) / run;
  // Short contexts are divided into leaves: fewer than this many.
  const int64_t split = int64_t(shape.blocks - 1) /
                        (2 * shape.heads.kvHeads * shape.passes()) *
                        shape.run();
  result.sharedBytes = (split + 1) * each;
}

LogicalResult printCudaAttention(CudaKernel &kernel) {
  auto match = matchAttention(kernel.func);
  if (failed(match))
    return failure();
  graph::KvType kv = match->op.getState().getType();
  const int tokens = int(kernel.schedule.getTokens());
  const int blocks = int(kernel.cuda.getBlocks());
  const bool prefill = kernel.schedule.getPrefill();
  const CudaAttentionShape heads{
      int(match->heads), int(kv.getHeads()), int(kv.getHeadDim()),
      int(match->q.rope.getRotaryDim()), int(kv.elementBytes())};
  const int stages = AttentionDecodeShape{heads, tokens, blocks, 1}.stagesIn(
      kernel.sharedPerBlock);
  {
    ConfigPrinter config(kernel.config);
    addAttention(config, *match, kv.getHalf() ? "u16" : "float");
    if (!prefill) {
      config.add("kTokens", int64_t(tokens));
      config.add("kBlocks", int64_t(blocks));
      config.add("kStages", int64_t(stages));
    }
  }
  kernel.config.line("");
  auto entry = [&](StringRef suffix, StringRef function, EmittedStage stage) {
    kernel.openEntry(suffix, std::move(stage));
    printAttentionArgs(kernel, *match);
    kernel.code.line(function + "<Cfg>(ctx, attention);");
    kernel.code.close();
  };
  if (prefill) {
    const AttentionPrefillShape shape{heads};
    entry("_append", "attentionPrefillAppend",
          {.threads = shape.appendThreads(),
           .blocks = heads.kvHeads,
           .tokensPerBlock = shape.appendTokensPerBlock()});
    kernel.code.line("");
    entry("", "attentionPrefillTiles",
          {.threads = shape.threads(),
           .blocks = heads.kvHeads,
           .tokensPerBlock = shape.tokensPerBlock(),
           .dynamicShared = shape.sharedBytes()});
    return success();
  }
  const AttentionDecodeShape shape{heads, tokens, blocks, stages};
  addDecodeScratch(shape, kernel.result);
  entry("", "attentionDecodeRanges",
        {.threads = shape.threads(),
         .blocks = blocks,
         .dynamicShared = shape.sharedBytes(),
         .resident = int32_t(kernel.cuda.getResident())});
  kernel.code.line("");
  entry("_combine", "attentionDecodeCombine",
        {.threads = shape.combineThreads(),
         .blocks = heads.heads * shape.combineParts(),
         .tokensPerBlock = 1,
         .dynamicShared = shape.combineSharedBytes()});
  return success();
}

} // namespace lathe
