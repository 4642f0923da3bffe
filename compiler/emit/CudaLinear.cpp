#include "compiler/emit/CudaKernels.h"

#include "compiler/device/cuda/linear_sizes.h"
#include "ir/kernel/KernelMatch.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using llvm::formatv;

namespace lathe {

/// Threads of the entry that prepares a prompt's activations.
static constexpr int kInputThreads = 256;

/// "segment<format, rows>(weights, [&](int t, int row, float y0) { stores })".
static LogicalResult printSegment(CudaKernel &kernel,
                                  const LinearSegment &segment,
                                  StringRef terminator) {
  CodeWriter &code = kernel.code;
  graph::WeightType type =
      graph::LinearOp(segment.linears[0]).getWeight().getType();
  std::string weights, sums;
  for (auto [i, linear] : llvm::enumerate(segment.linears)) {
    weights += kernel.arg(graph::LinearOp(linear).getWeight()) + ", ";
    sums += formatv(", float y{0}", i);
  }
  code.open(formatv("segment<{0}, {1}>({2}[&](int t, int row{3}) {{",
                    packingArguments(type), type.getRows(), weights, sums)
                .str());
  RowPrinter rows(kernel.operands, code, {RowScope::Kind::CudaTokens});
  for (auto [i, linear] : llvm::enumerate(segment.linears))
    rows.bind(graph::LinearOp(linear).getResult(), "y" + std::to_string(i));
  for (auto &[result, value] : segment.outputs) {
    if (failed(rows.declare(value)))
      return failure();
    auto expression = rows.at(value, "row");
    if (failed(expression))
      return failure();
    code.line(formatv("((float *)args[{0}])[(i64)t * strideOf({1}) + row] = "
                      "{2};",
                      kernel.operands.ofResult(result), graph::widthOf(value),
                      *expression)
                  .str());
  }
  code.close("})" + terminator);
  return success();
}

/// in.fill<...>() for every part of the input. `parameters` are the lambda's;
/// it gives four columns at a time where rows are aligned for that.
static LogicalResult printInput(CudaKernel &kernel, graph::LinearOp first,
                                RowPrinter &rows, StringRef parameters) {
  CodeWriter &code = kernel.code;
  int64_t begin = 0;
  for (Value part : inputParts(first)) {
    if (failed(rows.declare(part)))
      return failure();
    auto expression = rows.columnsAt(part, "k");
    if (failed(expression))
      return failure();
    if (begin % 4 != 0)
      return first.emitOpError()
             << "expected concatenated widths that are multiples of 4";
    code.line(formatv("in.fill<{0}, {1}>([&]({2}) {{ return {3}; });", begin,
                      graph::widthOf(part), parameters, *expression)
                  .str());
    begin += graph::widthOf(part);
  }
  code.line("in.fillRest();");
  return success();
}

/// The sizes of a kernel's segments.
static MatvecShape shapeOf(CudaKernel &kernel,
                           ArrayRef<LinearSegment> segments) {
  graph::LinearOp first = segments.front().linears.front();
  MatvecShape shape{};
  shape.columns = int(graph::widthOf(first.getX()));
  shape.tokens = int(kernel.schedule.getTokens());
  shape.split = int(kernel.cuda.getSplit());
  shape.warps = int(kernel.cuda.getWarps());
  shape.stages = int(kernel.cuda.getStages());
  for (const LinearSegment &segment : segments) {
    WeightDesc desc =
        graph::LinearOp(segment.linears[0]).getWeight().getType().getDesc();
    shape.unitBytes = std::max(shape.unitBytes, cudaPacking(desc).unitBytes());
    shape.pairs = std::max(shape.pairs, int(segment.linears.size()));
  }
  for (auto norm : kernel.body.getOps<graph::RmsNormOp>())
    shape.scales += int(graph::widthOf(norm.getX()) /
                        norm.getWeight().getType().getDimSize(0));
  return shape;
}

/// Workspace of a matvec whose row tiles have parts, or are split.
static int64_t scratchOf(const MatvecShape &shape,
                         ArrayRef<LinearSegment> segments) {
  int lightest = INT32_MAX, items = 0;
  bool whole = shape.split == 1;
  SmallVector<std::pair<int, int>> tiles; // bytes, count
  for (const LinearSegment &segment : segments) {
    WeightDesc desc =
        graph::LinearOp(segment.linears[0]).getWeight().getType().getDesc();
    int bytes = matvecTileBytes(cudaPacking(desc), shape.columns,
                                int(segment.linears.size()));
    tiles.push_back({bytes, int(desc.rows + 15) / 16});
    lightest = std::min(lightest, bytes);
  }
  for (auto [bytes, count] : tiles) {
    int parts = matvecParts(bytes, lightest);
    whole &= parts == 1;
    items += count * parts;
  }
  return whole ? 0
               : matvecScratch(items, shape.split, shape.pairs, shape.tokens);
}

LogicalResult printCudaMatvec(CudaKernel &kernel) {
  auto segments = matchLinear(kernel.func);
  if (failed(segments))
    return failure();
  MatvecShape shape = shapeOf(kernel, *segments);
  kernel.result.sharedBytes = scratchOf(shape, *segments);
  CodeWriter &code = kernel.code;
  kernel.openEntry("", {.threads = shape.threads(),
                        .blocks = int32_t(kernel.cuda.getBlocks()),
                        .dynamicShared = shape.sharedBytes(),
                        .resident = int32_t(kernel.cuda.getResident())});
  code.line(formatv("constexpr MatvecShape kShape{{{0}, {1}, {2}, {3}, {4}, "
                    "{5}, {6}, {7}};",
                    shape.columns, shape.tokens, shape.split, shape.warps,
                    shape.stages, shape.unitBytes, shape.pairs, shape.scales)
                .str());
  code.open("auto list = segments<kShape.columns>(");
  for (size_t i = 0; i < segments->size(); ++i)
    if (failed(printSegment(kernel, (*segments)[i],
                            i + 1 < segments->size() ? "," : ");")))
      return failure();
  code.close("");
  code.line("Matvec<kShape, decltype(list)> matvec(ctx, list);");
  code.line("matvec.start();");
  kernel.waitHere();
  code.line("MatvecInput<kShape.columns, kShape.tokens, kShape.split> in("
            "matvec.activations(), matvec.splitIndex());");
  graph::LinearOp first = segments->front().linears.front();
  // Scales are needed for this block's columns only, if columns are the row's.
  const bool single = inputParts(first).size() == 1;
  RowPrinter rows(kernel.operands, code,
                  {RowScope::Kind::CudaTokens, shape.tokens, "matvec.scales()",
                   "matvec.partialScales()",
                   single ? "in.firstColumn(), in.kCount" : ""});
  if (failed(printInput(kernel, first, rows, "int t, int k")))
    return failure();
  code.line("syncThreads();");
  code.line("matvec.run();");
  code.close();
  return success();
}

LogicalResult printCudaMatmul(CudaKernel &kernel) {
  auto segments = matchLinear(kernel.func);
  if (failed(segments))
    return failure();
  graph::LinearOp first = segments->front().linears.front();
  int tileBytes = 0;
  for (const LinearSegment &segment : *segments)
    tileBytes =
        std::max(tileBytes,
                 matmulTileBytes(cudaPacking(graph::LinearOp(segment.linears[0])
                                                 .getWeight()
                                                 .getType()
                                                 .getDesc())));
  const bool split = kernel.schedule.getForm() == kernel::Form::Split;
  MatmulShape shape{int(graph::widthOf(first.getX())), split ? 2 : 1, tileBytes,
                    int(kernel.cuda.getStages())};
  kernel.result.sharedBytes = shape.scratchBytes(kernel.schedule.getTokens());
  std::string constant =
      formatv("constexpr MatmulShape kShape{{{0}, {1}, {2}, {3}};",
              shape.columns, shape.planes, shape.tileBytes, shape.stages);

  CodeWriter &code = kernel.code;
  kernel.openEntry("_input", {.threads = kInputThreads, .tokensPerBlock = 1});
  code.line(constant);
  kernel.waitHere();
  code.line("const int t = blockY();");
  code.line("float *const shared = (float *)sharedMemory();");
  code.line("MatmulInput<kShape> in(ctx.scratch, t);");
  RowPrinter rows(kernel.operands, code,
                  {RowScope::Kind::CudaRow, 1, "shared + 8", "shared"});
  if (failed(printInput(kernel, first, rows, "int, int k")))
    return failure();
  code.close();
  code.line("");
  kernel.result.stages.back().dynamicShared =
      int32_t(4 * (kInputThreads / 32 + rows.scaleFloats()));

  kernel.openEntry("", {.threads = kMatmulThreads,
                        .blocks = int32_t(kernel.cuda.getBlocks()),
                        .tokensPerBlock = kMatmulTokens,
                        .dynamicShared = shape.sharedBytes()});
  code.line(constant);
  kernel.waitHere();
  code.open("matmul<kShape>(ctx, blockX(),");
  for (size_t i = 0; i < segments->size(); ++i)
    if (failed(printSegment(kernel, (*segments)[i],
                            i + 1 < segments->size() ? "," : ");")))
      return failure();
  code.close("");
  code.close();
  return success();
}

} // namespace lathe
