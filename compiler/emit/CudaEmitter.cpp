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

void CudaKernel::openEntry(StringRef suffix, EmittedStage stage) {
  stage.entry = (func.getSymName() + suffix).str();
  int64_t count = 0;
  for (BlockArgument argument : body.getArguments())
    count += !isa<IndexType>(argument.getType());
  for (Value value : body.getTerminator()->getOperands())
    count += !graph::isState(value.getType());
  std::string parameters, names;
  for (int64_t i = 0; i < count; ++i) {
    parameters += formatv(", void *a{0}", i);
    names += formatv("{0}a{1}", i ? ", " : "", i);
  }
  code.line(
      formatv("LATHE_KERNEL({0}, {1})", stage.threads, stage.resident).str());
  code.open(stage.entry + "(LatheLaunch ctx" + parameters + ") {");
  code.line("void *const args[] = {" + names + "};");
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
  kernel.code.line(formatv("gatherRow<{0}>({1}{{{2}}, (const int *){3}, (float "
                           "*)args[{4}]);",
                           type.getCols(), table, kernel.arg(op.getTable()),
                           kernel.arg(op.getTokens()),
                           kernel.operands.ofResult(0))
                       .str());
  kernel.code.close();
  return success();
}

/// Norms and elementwise operations that belong to no other kernel.
static LogicalResult printRows(CudaKernel &kernel) {
  CodeWriter &code = kernel.code;
  kernel.openEntry("", {.threads = kRowThreads, .tokensPerBlock = 1});
  kernel.waitHere();
  code.line("const int t = blockY();");
  code.line("float *const shared = (float *)sharedMemory();");
  RowPrinter rows(
      kernel.operands, code,
      {RowScope::Kind::CudaRow, "BlockTeam()", 1, "shared + 8", "shared"});
  for (auto [i, value] :
       llvm::enumerate(kernel.body.getTerminator()->getOperands())) {
    if (auto concat = value.getDefiningOp<graph::ConcatOp>())
      return concat.emitOpError() << "cannot be a kernel of its own";
    if (failed(rows.declare(value)))
      return failure();
    auto expression = rows.columnsAt(value, "k");
    if (failed(expression))
      return failure();
    code.line(formatv("eachColumn<{0}>((float *)args[{1}] + (i64)t * "
                      "strideOf({0}), [&](int, int k) {{ return {2}; });",
                      graph::widthOf(value), kernel.operands.ofResult(i),
                      *expression)
                  .str());
  }
  code.close();
  kernel.result.stages.back().dynamicShared =
      int32_t(4 * (kRowThreads / 32 + rows.scaleFloats()));
  return success();
}

/// The device headers that an anchor uses.
static ArrayRef<StringRef> headersOf(kernel::FuncOp func) {
  static constexpr StringRef matvec[] = {"matvec.cuh"};
  static constexpr StringRef matmul[] = {"matmul.cuh", "matmul_input.cuh"};
  static constexpr StringRef rows[] = {"rows.cuh"};
  static constexpr StringRef delta[] = {"delta_step.cuh"};
  static constexpr StringRef deltaPrefill[] = {"delta_prefill.cuh",
                                               "delta_step.cuh"};
  static constexpr StringRef attention[] = {"attention_decode.cuh"};
  static constexpr StringRef attentionPrefill[] = {"attention_prefill.cuh"};
  bool prefill = func.getSchedule()->getPrefill();
  switch (func.getAnchor()) {
  case kernel::Anchor::Linear:
    return prefill ? ArrayRef(matmul) : ArrayRef(matvec);
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

FailureOr<EmittedKernel> emitCudaKernel(kernel::FuncOp func) {
  if (!func.getSchedule() || !func.getCuda())
    return FailureOr<EmittedKernel>(
        func.emitOpError() << "expected a schedule and a cuda attribute; run "
                              "specialize-tokens and schedule-cuda");
  CudaKernel kernel(func);
  if (failed(printBody(kernel)))
    return failure();
  CodeWriter text;
  for (StringRef header : headersOf(func))
    text.line("#include \"compiler/device/cuda/" + header + "\"");
  text.line("");
  // CUDA's own exp, load... are global; inside the namespace ours win.
  text.line("namespace lathe {");
  text.line("");
  text.paste(kernel.config.take());
  text.paste(kernel.code.take());
  text.line("");
  text.line("} // namespace lathe");
  kernel.result.name = func.getSymName().str();
  kernel.result.text = text.take();
  return std::move(kernel.result);
}

} // namespace lathe
