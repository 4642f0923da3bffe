#include "compiler/emit/CpuEmitter.h"

#include "compiler/emit/CpuKernels.h"

#include "ir/plan/Plan.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using llvm::formatv;

namespace lathe {

std::string formatName(graph::WeightType type) {
  switch (type.getFormat()) {
  case WeightFormat::F32:
    return "F32";
  case WeightFormat::F16:
    return "F16";
  case WeightFormat::BF16:
    return "Bf16";
  case WeightFormat::Int4:
    return formatv("Int4<{0}, {1}>", type.getGroup(),
                   type.getAsymmetric() ? "true" : "false");
  case WeightFormat::NvFp4:
    return "NvFp4";
  }
  llvm_unreachable("every format has a name");
}

LogicalResult printEmbedding(CpuKernel &kernel) {
  auto op = cast<graph::EmbeddingOp>(kernel.body.front());
  graph::WeightType table = op.getTable().getType();
  auto layout = kernel.func.getArgAttrOfType<plan::LayoutAttr>(
      cast<BlockArgument>(op.getTable()).getArgNumber(), "lathe.layout");
  std::string format = formatName(table);
  if (layout && layout.getValue() == plan::Layout::Rows) {
    if (table.getCols() % LATHE_LANES != 0)
      return op.emitOpError() << "expected a table width that is a multiple "
                                 "of "
                              << LATHE_LANES << ", found " << table.getCols();
    format = "Plain<" + format + ">";
  }
  CodeWriter &code = kernel.code;
  code.line("Range tokens = shareOf(ctx, ctx->tokens);");
  code.line("const int *ids = (const int *)" + kernel.arg(op.getTokens()) +
            ";");
  code.open("for (int t = tokens.begin; t < tokens.end; ++t)");
  code.line(formatv("gatherRow<{0}, {1}>({2}, ids[t], (float *)args[{3}] + "
                    "(i64)t * strideOf({1}));",
                    format, table.getCols(), kernel.arg(op.getTable()),
                    kernel.operands.ofResult(0))
                .str());
  return success();
}

LogicalResult printElementwise(CpuKernel &kernel) {
  Operation *end = kernel.body.getTerminator();
  CodeWriter &code = kernel.code;
  RowPrinter rows(kernel.operands, code);
  code.line("Range tokens = shareOf(ctx, ctx->tokens);");
  code.open("for (int t = tokens.begin; t < tokens.end; ++t) {");
  for (auto [i, value] : llvm::enumerate(end->getOperands())) {
    if (auto concat = value.getDefiningOp<graph::ConcatOp>())
      return concat.emitOpError() << "cannot be a kernel of its own";
    if (failed(rows.declare(value)))
      return failure();
    auto expression = rows.at(value, "k");
    if (failed(expression))
      return failure();
    int64_t width = graph::widthOf(value);
    code.line(formatv("float *y{0} = (float *)args[{1}] + (i64)t * "
                      "strideOf({2});",
                      i, kernel.operands.ofResult(i), width)
                  .str());
    code.open(
        formatv("for (int k = 0; k < {0}; k += LATHE_LANES)", width).str());
    code.line(formatv("store(y{0} + k, {1});", i, *expression).str());
    code.close("");
  }
  code.close();
  return success();
}

/// The device headers that an anchor uses.
static ArrayRef<StringRef> headersOf(kernel::Anchor anchor) {
  static constexpr StringRef linear[] = {"linear.h", "row.h"};
  static constexpr StringRef embedding[] = {"gather.h"};
  static constexpr StringRef delta[] = {"delta_step.h", "delta_chunk.h"};
  static constexpr StringRef attention[] = {"attention_decode.h",
                                            "attention_prefill.h"};
  static constexpr StringRef elementwise[] = {"norms.h", "row.h"};
  switch (anchor) {
  case kernel::Anchor::Embedding:
    return embedding;
  case kernel::Anchor::Linear:
    return linear;
  case kernel::Anchor::Delta:
    return delta;
  case kernel::Anchor::Attention:
    return attention;
  case kernel::Anchor::Norm:
  case kernel::Anchor::Elementwise:
    return elementwise;
  }
  llvm_unreachable("every anchor has headers");
}

static LogicalResult printBody(CpuKernel &kernel) {
  switch (kernel.func.getAnchor()) {
  case kernel::Anchor::Embedding:
    return printEmbedding(kernel);
  case kernel::Anchor::Linear:
    return printLinear(kernel);
  case kernel::Anchor::Delta:
    return printDelta(kernel);
  case kernel::Anchor::Attention:
    return printAttention(kernel);
  case kernel::Anchor::Norm:
  case kernel::Anchor::Elementwise:
    return printElementwise(kernel);
  }
  llvm_unreachable("every anchor has a printer");
}

FailureOr<EmittedKernel> emitCpuKernel(kernel::FuncOp func) {
  if (!func.getSchedule())
    return FailureOr<EmittedKernel>(
        func.emitOpError() << "expected a schedule; run specialize-tokens");
  CpuKernel kernel(func);
  if (failed(printBody(kernel)))
    return failure();
  CodeWriter text;
  for (StringRef header : headersOf(func.getAnchor()))
    text.line("#include \"compiler/device/cpu/" + header + "\"");
  text.line("");
  text.paste(kernel.config.take());
  text.open("extern \"C\" void " + func.getSymName() +
            "(void *const *args, const LatheContext *ctx) {");
  text.line("using namespace lathe;");
  text.paste(kernel.code.take());
  text.close();
  kernel.result.name = func.getSymName().str();
  kernel.result.text = text.take();
  return std::move(kernel.result);
}

} // namespace lathe
