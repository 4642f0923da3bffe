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

/// Visits the parts of the input: print(begin, width, expression of columns
/// from k on).
static LogicalResult
eachInputPart(graph::LinearOp first, RowPrinter &rows,
              function_ref<void(int64_t, int64_t, StringRef)> print) {
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
    print(begin, graph::widthOf(part), *expression);
    begin += graph::widthOf(part);
  }
  return success();
}

/// matvec.input(): the printed prologue as one function of a token and four
/// columns.
static LogicalResult printMatvecInput(CudaKernel &kernel, graph::LinearOp first,
                                      RowPrinter &rows) {
  // Declarations come before the function that uses them.
  SmallVector<std::string> lines;
  const int64_t columns = graph::widthOf(first.getX());
  auto print = [&](int64_t begin, int64_t width, StringRef expression) {
    std::string condition, column = "k";
    if (begin + width < columns)
      condition = formatv("if (k < {0}) ", begin + width);
    if (begin > 0)
      column = formatv("k - {0}", begin);
    lines.push_back(formatv("{0}return fourOf<{1}>([&](int t, int k) {{ return "
                            "{2}; }, t, {3});",
                            condition, width, expression, column));
  };
  if (failed(eachInputPart(first, rows, print)))
    return failure();
  kernel.code.open("const auto x = matvec.input([&](int t, int k) {");
  for (const std::string &line : lines)
    kernel.code.line(line);
  kernel.code.close("});");
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

/// Workspace of a matvec whose row tiles have parts, are split or may be cut.
static int64_t scratchOf(const MatvecShape &shape, int64_t blocks,
                         ArrayRef<LinearSegment> segments) {
  int lightest = INT32_MAX, items = 0;
  bool whole = shape.split == 1;
  SmallVector<WeightDesc> descs;
  auto bytesOf = [&](const LinearSegment &segment, const WeightDesc &desc) {
    return matvecTileBytes(cudaPacking(desc), shape.columns,
                           int(segment.linears.size()));
  };
  for (const LinearSegment &segment : segments) {
    descs.push_back(
        graph::LinearOp(segment.linears[0]).getWeight().getType().getDesc());
    lightest = std::min(lightest, bytesOf(segment, descs.back()));
  }
  for (auto [segment, desc] : llvm::zip(segments, descs)) {
    int parts =
        matvecParts(cudaPacking(desc), bytesOf(segment, desc), lightest);
    whole &= parts == 1;
    items += int(desc.rows + 15) / 16 * parts;
  }
  // Items that are left over are fewer than groups of warps.
  if (whole)
    items = std::min<int64_t>(items, blocks * shape.groups());
  return matvecScratch(items, shape.split, shape.pairs, shape.tokens);
}

LogicalResult printCudaMatvec(CudaKernel &kernel) {
  auto segments = matchLinear(kernel.func);
  if (failed(segments))
    return failure();
  // Tiles that are worked off in parts meet in the workspace: not at the end.
  llvm::stable_sort(*segments, [](const LinearSegment &a,
                                  const LinearSegment &b) {
    auto tileBytes = [](const LinearSegment &segment) {
      graph::LinearOp first = segment.linears.front();
      return matvecTileBytes(cudaPacking(first.getWeight().getType().getDesc()),
                             int(graph::widthOf(first.getX())),
                             int(segment.linears.size()));
    };
    return tileBytes(a) > tileBytes(b);
  });
  MatvecShape shape = shapeOf(kernel, *segments);
  kernel.result.sharedBytes =
      scratchOf(shape, kernel.cuda.getBlocks(), *segments);
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
  code.line("UnitRings<kShape.rings()> rings{sharedMemory()};");
  code.line("Matvec<kShape, decltype(list)> matvec(ctx, list, {sharedMemory() "
            "+ kShape.rings().bytes(), blockX(), gridX()}, warp());");
  code.line("rings.prepare();");
  code.line("matvec.prepare();");
  code.line("barrierInitFence();");
  code.line("syncThreads();");
  code.line("const MatvecRoles<kShape.warps> role{warp()};");
  code.open("if (role.fetches()) {");
  code.line("UnitWriter<kShape.rings()> writer(rings);");
  code.line("return matvec.fetch(writer);");
  code.close("}");
  kernel.waitHere();
  code.line("if (!role.multiplies())");
  code.line("  return matvec.finish();");
  code.line("if (!matvec.works())");
  code.line("  return;");
  graph::LinearOp first = segments->front().linears.front();
  // Scales are needed for this block's columns only, if columns are the row's.
  const bool single = inputParts(first).size() == 1;
  RowPrinter rows(
      kernel.operands, code,
      {RowScope::Kind::CudaTokens, "decltype(matvec)::Team()", shape.tokens,
       "matvec.scales()", "matvec.partialScales()",
       single ? "matvec.firstColumn(), kShape.splitColumns()" : ""});
  if (failed(printMatvecInput(kernel, first, rows)))
    return failure();
  code.line("UnitReader<kShape.rings()> ring(rings, warp());");
  code.line("matvec.multiply(ring, x);");
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
  RowPrinter rows(
      kernel.operands, code,
      {RowScope::Kind::CudaRow, "BlockTeam()", 1, "shared + 8", "shared"});
  auto print = [&](int64_t begin, int64_t width, StringRef expression) {
    code.line(formatv("in.fill<{0}, {1}>([&](int, int k) {{ return {2}; });",
                      begin, width, expression)
                  .str());
  };
  if (failed(eachInputPart(first, rows, print)))
    return failure();
  code.line("in.fillRest();");
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
