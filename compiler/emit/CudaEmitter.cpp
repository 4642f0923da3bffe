#include "compiler/emit/CudaEmitter.h"

#include "compiler/emit/CudaKernels.h"

#include "ir/plan/Plan.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using llvm::formatv;

namespace lathe {

/// As in compiler/device/cuda/rows.cuh.
static constexpr int kRowThreads = 256;

std::string packingArguments(graph::WeightType type) {
  CudaPacking packing = cudaPacking(type.getDesc());
  const char *name = packing.format == CudaFormat::Half   ? "Half"
                     : packing.format == CudaFormat::Wide ? "Wide"
                     : packing.format == CudaFormat::Int4 ? "Int4"
                                                          : "NvFp4";
  return formatv("CudaFormat::{0}, {1}, {2}", name, packing.grain,
                 packing.asymmetric ? "true" : "false");
}

int64_t CudaKernel::operandCount() {
  int64_t count = 0;
  for (BlockArgument argument : body.getArguments())
    count += !isa<IndexType>(argument.getType());
  for (Value value : body.getTerminator()->getOperands())
    count += !graph::isState(value.getType());
  return count;
}

std::string CudaKernel::operandsType() {
  return formatv("Operands<{0}>", operandCount());
}

void CudaKernel::openEntry(StringRef suffix, EmittedStage stage) {
  stage.entry = (func.getSymName() + suffix).str();
  std::string parameters, names;
  for (int64_t i = 0; i < operandCount(); ++i) {
    parameters += formatv(", void *a{0}", i);
    names += formatv("{0}a{1}", i ? ", " : "", i);
  }
  code.line(formatv("LATHE_KERNEL({0}, {1}){2}", stage.threads, stage.resident,
                    stage.twins == 2 ? " LATHE_TWINS" : "")
                .str());
  code.open(stage.entry + "(LatheLaunch ctx" + parameters + ") {");
  code.line("using namespace " + scope() + ";");
  code.line("const " + operandsType() + " args{{" + names + "}};");
  result.stages.push_back(std::move(stage));
}

void CudaKernel::waitHere() {
  code.line("waitForPrevious();");
  code.line("launchNext();");
}

static LogicalResult printEmbedding(CudaKernel &kernel) {
  auto op = cast<graph::EmbeddingOp>(kernel.body.front());
  graph::WeightType type = op.getTable().getType();
  auto layout = kernel.func.getArgAttrOfType<plan::LayoutAttr>(
      cast<BlockArgument>(op.getTable()).getArgNumber(), "lathe.layout");
  std::string table;
  if (layout && layout.getValue() == plan::Layout::Rows) {
    const char *format = type.getFormat() == WeightFormat::F32   ? "F32"
                         : type.getFormat() == WeightFormat::F16 ? "F16"
                                                                 : "Bf16";
    table = formatv("PlainTable<RowFormat::{0}, {1}>", format, type.getCols());
  } else {
    table = formatv("PackedTable<{0}, {1}>", packingArguments(type),
                    type.getCols());
  }
  int64_t blocks = (type.getCols() + kRowThreads - 1) / kRowThreads;
  kernel.openEntry(
      "",
      {.threads = kRowThreads, .blocks = int32_t(blocks), .tokensPerBlock = 1});
  kernel.waitHere();
  const std::string arguments =
      formatv("{0}{{{1}}, (const int *){2}, (float *)args[{3}]", table,
              kernel.arg(op.getTable()), kernel.arg(op.getTokens()),
              kernel.operands.ofResult(0));
  kernel.code.line(
      formatv("gatherRow<{0}>({1});", type.getCols(), arguments).str());
  kernel.code.close();
  kernel.result.step.call =
      formatv("const auto args = ops.template operands<{0}>(); step.other("
              "[&](char *, int block) {{ "
              "gatherRows<{1}, {2}>(step.team(), block, step.kGrid, {3}); });",
              kernel.operandCount(), type.getCols(),
              kernel.schedule.getTokens(), arguments);
  return success();
}

/// Norms and elementwise operations that belong to no other kernel.
static LogicalResult printRows(CudaKernel &kernel) {
  CodeWriter &code = kernel.config;
  code.line("template <class Team>");
  code.open("LATHE_DEVICE void row(Team team, float *shared, int t, " +
            kernel.operandsType() + " args) {");
  RowPrinter rows(
      kernel.operands, code,
      {RowScope::Kind::CudaRow, "team", 1, "shared + 32", "shared"});
  for (auto [i, value] :
       llvm::enumerate(kernel.body.getTerminator()->getOperands())) {
    if (auto concat = value.getDefiningOp<graph::ConcatOp>())
      return concat.emitOpError() << "cannot be a kernel of its own";
    if (failed(rows.declare(value)))
      return failure();
    auto expression = rows.columnsAt(value, "k");
    if (failed(expression))
      return failure();
    code.line(formatv("eachColumn<{0}>(team, (float *)args[{1}] + (i64)t * "
                      "strideOf({0}), [&](int, int k) {{ return {2}; });",
                      graph::widthOf(value), kernel.operands.ofResult(i),
                      *expression)
                  .str());
  }
  code.close();
  const int32_t shared = int32_t(4 * (32 + rows.scaleFloats()));
  kernel.openEntry(
      "",
      {.threads = kRowThreads, .tokensPerBlock = 1, .dynamicShared = shared});
  kernel.waitHere();
  kernel.code.line(kernel.scope() + "::row(BlockTeam(), (float *)sharedMemory()"
                                    ", blockY(), args);");
  kernel.code.close();
  kernel.result.step.sharedBytes = shared;
  kernel.result.step.call = formatv(
      "step.other([&](char *shared, int block) {{ eachToken<{0}>(step.team()"
      ", block, step.kGrid, [&](int t) {{ {1}::row(step.team(), (float *)"
      "shared, t, ops.template operands<{2}>()); }); });",
      kernel.schedule.getTokens(), kernel.scope(), kernel.operandCount());
  return success();
}

/// The device headers that an anchor uses.
static ArrayRef<StringRef> headersOf(kernel::FuncOp func) {
  static constexpr StringRef matvec[] = {"matvec_launch.cuh"};
  static constexpr StringRef matmul[] = {"matmul.cuh", "matmul_input.cuh"};
  static constexpr StringRef warpgroup[] = {"matmul_warpgroup.cuh",
                                            "matmul_input.cuh"};
  static constexpr StringRef rows[] = {"rows.cuh"};
  static constexpr StringRef delta[] = {"delta_step.cuh"};
  static constexpr StringRef deltaPrefill[] = {"delta_prefill.cuh",
                                               "delta_step.cuh"};
  static constexpr StringRef attention[] = {"attention_decode.cuh"};
  static constexpr StringRef attentionPrefill[] = {"attention_prefill.cuh"};
  bool prefill = func.getSchedule()->getPrefill();
  switch (func.getAnchor()) {
  case kernel::Anchor::Linear:
    return !prefill                         ? ArrayRef(matvec)
           : func.getCuda()->getWarpgroup() ? ArrayRef(warpgroup)
                                            : ArrayRef(matmul);
  case kernel::Anchor::Delta:
    return prefill ? ArrayRef(deltaPrefill) : ArrayRef(delta);
  case kernel::Anchor::Attention:
    return prefill ? attentionPrefill : attention;
  default:
    return rows;
  }
}

static LogicalResult printBody(CudaKernel &kernel) {
  switch (kernel.func.getAnchor()) {
  case kernel::Anchor::Embedding:
    return printEmbedding(kernel);
  case kernel::Anchor::Linear:
    return kernel.schedule.getPrefill() ? printCudaMatmul(kernel)
                                        : printCudaMatvec(kernel);
  case kernel::Anchor::Delta:
    return printCudaDelta(kernel);
  case kernel::Anchor::Attention:
    return printCudaAttention(kernel);
  case kernel::Anchor::Norm:
  case kernel::Anchor::Elementwise:
    return printRows(kernel);
  }
  llvm_unreachable("every anchor has a printer");
}

FailureOr<EmittedKernel> emitCudaKernel(kernel::FuncOp func,
                                        int sharedPerBlock) {
  if (!func.getSchedule() || !func.getCuda())
    return FailureOr<EmittedKernel>(
        func.emitOpError() << "expected a schedule and a cuda attribute; run "
                              "specialize-tokens and schedule-cuda");
  CudaKernel kernel(func, sharedPerBlock);
  if (failed(printBody(kernel)))
    return failure();
  EmittedKernel &result = kernel.result;
  // Blocks of a matvec find out how many there are.
  if (func.getAnchor() == kernel::Anchor::Linear &&
      !func.getSchedule()->getPrefill())
    result.stages.front().grain =
        int32_t(kernel.cuda.getSplit() * kernel.cuda.getTwins());
  result.name = func.getSymName().str();
  result.headers = {"operands.cuh"};
  for (StringRef header : headersOf(func))
    result.headers.push_back(header.str());
  CodeWriter declarations;
  declarations.line("namespace " + kernel.scope() + " {");
  declarations.paste(kernel.config.take());
  declarations.line("} // namespace " + kernel.scope());
  declarations.line("");
  result.step.text = declarations.take();
  CodeWriter text;
  for (const std::string &header : result.headers)
    text.line("#include \"compiler/device/cuda/" + header + "\"");
  text.line("");
  // CUDA's own exp, load... are global; inside the namespace ours win.
  text.line("namespace lathe {");
  text.line("");
  text.paste(result.step.text);
  text.paste(kernel.code.take());
  text.line("");
  text.line("} // namespace lathe");
  result.text = text.take();
  return std::move(result);
}

} // namespace lathe
