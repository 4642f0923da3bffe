#include "compiler/emit/CudaKernels.h"

#include "compiler/device/cuda/linear_sizes.h"
#include "compiler/device/cuda/warpgroup_sizes.h"
#include "ir/kernel/KernelMatch.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using llvm::formatv;

namespace lathe {

/// Threads of the entry that prepares a prompt's activations.
static constexpr int kInputThreads = 256;

/// "segment<format, rows, outputs>(weights, [&](int t, int row, float y0) {
/// stores })". Where `later`, the lambda has one more parameter, which stores
/// for it.
static LogicalResult printSegment(CudaKernel &kernel, CodeWriter &code,
                                  const LinearSegment &segment,
                                  StringRef terminator, bool later) {
  graph::WeightType type =
      graph::LinearOp(segment.linears[0]).getWeight().getType();
  std::string weights, sums;
  for (auto [i, linear] : llvm::enumerate(segment.linears)) {
    weights += kernel.arg(graph::LinearOp(linear).getWeight()) + ", ";
    sums += formatv(", float y{0}", i);
  }
  if (later)
    sums += ", auto &store";
  code.open(formatv("segment<{0}, {1}, {2}>({3}[=](int t, int row{4}) {{",
                    packingArguments(type), type.getRows(),
                    segment.outputs.size(), weights, sums)
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
    code.line(formatv(later ? "store((float *)args[{0}] + (i64)t * "
                              "strideOf({1}) + row, {2});"
                            : "((float *)args[{0}])[(i64)t * strideOf({1}) + "
                              "row] = {2};",
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

/// The norm that matvec.input() can do: over the row, or over groups that a
/// warp has whole.
static graph::RmsNormOp normOfInput(graph::LinearOp first) {
  graph::RmsNormOp norm = scalingNorm(first);
  if (!norm)
    return {};
  const int64_t columns = graph::widthOf(first.getX());
  const int64_t group = norm.getWeight().getType().getDimSize(0);
  const bool fits = group == columns || group == 16 || group == 32 ||
                    group == 64 || group == 128;
  return fits && graph::widthOf(norm.getX()) == columns ? norm
                                                        : graph::RmsNormOp();
}

/// The norm as an argument of segments().
static std::string normArgument(graph::LinearOp first) {
  graph::RmsNormOp norm = normOfInput(first);
  if (!norm)
    return "NoNorm()";
  return formatv("InputNorm<{0}>{{{1}}",
                 norm.getWeight().getType().getDimSize(0),
                 floatLiteral(norm.getEps().convertToDouble()));
}

/// matvec.input(): the printed prologue as one function of a token and four
/// columns, which also gives what the norm is over.
static LogicalResult printMatvecInput(CudaKernel &kernel, graph::LinearOp first,
                                      RowPrinter &rows) {
  CodeWriter &code = kernel.config;
  const int64_t columns = graph::widthOf(first.getX());
  // Declarations come before the function that uses them.
  SmallVector<std::string> lines;
  if (graph::RmsNormOp norm = normOfInput(first)) {
    rows.leaveUnscaled(norm);
    const int64_t group = norm.getWeight().getType().getDimSize(0);
    if (failed(rows.declare(norm.getX())))
      return failure();
    auto raw = rows.columnsAt(norm.getX(), "k");
    if (failed(raw))
      return failure();
    lines.push_back(
        formatv("raw = fourOf<{0}>([&](int t, int k) {{ return {1}; "
                "}, t, k);",
                columns, *raw));
    code.line(formatv("matvec.prefetch((const float *){0}, {1});",
                      kernel.arg(norm.getWeight()), group)
                  .str());
  }
  code.line("start();");
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
  code.open("const auto x = matvec.input([&](int t, int k, Float4 &raw) {");
  for (const std::string &line : lines)
    code.line(line);
  code.close("});");
  return success();
}

static CudaPacking packingOf(const LinearSegment &segment) {
  return cudaPacking(
      graph::LinearOp(segment.linears[0]).getWeight().getType().getDesc());
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
  shape.parts = kernel.schedule.getForm() == kernel::Form::Half ? 1 : 2;
  shape.twins = int(kernel.cuda.getTwins());
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

/// The launch of its own, and the calls of the persistent step.
static void printMatvecEntry(CudaKernel &kernel, const MatvecShape &shape) {
  const std::string scope = kernel.scope();
  CodeWriter &code = kernel.code;
  kernel.openEntry("", {.threads = shape.threads(),
                        .blocks = int32_t(kernel.cuda.getBlocks()),
                        .dynamicShared = shape.sharedBytes(),
                        .resident = int32_t(kernel.cuda.getResident()),
                        .twins = shape.twins});
  code.line("const auto weights = " + scope + "::weights(args);");
  code.open("launchMatvec<" + scope +
            "::kShape>(ctx, weights, [&](const auto &matvec, auto &ring, "
            "auto start) {");
  code.line(scope + "::multiply(matvec, ring, start, args);");
  code.close("});");
  code.close();
  const std::string weights = formatv(
      "const auto args = ops.template operands<{0}>(); const auto weights = "
      "{1}::weights(args); ",
      kernel.operandCount(), scope);
  EmittedStepPart &step = kernel.result.step;
  step.call =
      weights + formatv("step.template matvec<{0}::kShape>(weights, "
                        "[&](const auto &matvec) {{ {0}::multiply(matvec, "
                        "ring, [] {{}, args); });",
                        scope)
                    .str();
  step.fetch =
      weights +
      formatv("step.template fetch<{0}::kShape>(weights, writer);", scope)
          .str();
  step.sharedBytes = shape.alone().workBytes();
  step.unitBytes = shape.unitBytes;
  step.warps = shape.warps;
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
  CodeWriter &config = kernel.config;
  config.line(formatv("constexpr MatvecShape kShape{{{0}, {1}, {2}, {3}, {4}, "
                      "{5}, {6}, {7}, {8}, {9}};",
                      shape.columns, shape.tokens, shape.split, shape.warps,
                      shape.stages, shape.unitBytes, shape.pairs, shape.scales,
                      shape.parts, shape.twins)
                  .str());
  config.open("LATHE_DEVICE auto weights(" + kernel.operandsType() +
              " args) {");
  graph::LinearOp first = segments->front().linears.front();
  config.open("return segments<kShape.columns>(" + normArgument(first) + ",");
  for (size_t i = 0; i < segments->size(); ++i)
    if (failed(printSegment(kernel, config, (*segments)[i],
                            i + 1 < segments->size() ? "," : ");", true)))
      return failure();
  config.close("");
  config.close();
  config.line("template <class Matvec, class Ring, class Start>");
  config.open("LATHE_DEVICE void multiply(const Matvec &matvec, Ring &ring, "
              "Start start, " +
              kernel.operandsType() + " args) {");
  // Scales are needed for this block's columns only, if columns are the row's.
  const bool single = inputParts(first).size() == 1;
  RowPrinter rows(
      kernel.operands, config,
      {RowScope::Kind::CudaTokens, "typename Matvec::Team()", shape.tokens,
       "matvec.scales()", "matvec.partialScales()",
       single ? "matvec.firstColumn(), kShape.splitColumns()" : ""});
  if (failed(printMatvecInput(kernel, first, rows)))
    return failure();
  config.line("matvec.multiply(ring, x);");
  config.close();
  printMatvecEntry(kernel, shape);
  return success();
}

namespace {
/// How the two matmuls differ for the printer.
struct MatmulText {
  std::string constant; ///< declares kShape
  std::string call;     ///< up to the segments
  EmittedStage stage;
  int64_t scratch;
};
} // namespace

static MatmulText warpgroupText(CudaKernel &kernel, int columns, int planes,
                                ArrayRef<LinearSegment> segments) {
  int unitBytes = 0;
  size_t outputs = 0; // of a segment
  for (const LinearSegment &segment : segments) {
    unitBytes = std::max(unitBytes, packingOf(segment).unitBytes());
    outputs = std::max(outputs, segment.outputs.size());
  }
  WarpgroupShape shape{columns, planes, unitBytes,
                       int(kernel.cuda.getWarpgroup()),
                       int(kernel.cuda.getStages())};
  return {formatv("constexpr WarpgroupShape kShape{{{0}, {1}, {2}, {3}, {4}};",
                  shape.columns, shape.planes, shape.unitBytes, shape.tokens,
                  shape.stages),
          formatv("matmulWarpgroup<kShape, {0}>(ctx,", outputs),
          {.threads = kWarpgroupThreads,
           .blocks = int32_t(kernel.cuda.getBlocks()),
           .dynamicShared = shape.sharedBytes()},
          shape.scratchBytes(kernel.schedule.getTokens())};
}

static MatmulText matmulText(CudaKernel &kernel, int columns, int planes,
                             ArrayRef<LinearSegment> segments) {
  int tileBytes = 0;
  for (const LinearSegment &segment : segments)
    tileBytes = std::max(tileBytes, matmulTileBytes(packingOf(segment)));
  MatmulShape shape{columns, planes, tileBytes, int(kernel.cuda.getStages())};
  return {formatv("constexpr MatmulShape kShape{{{0}, {1}, {2}, {3}};",
                  shape.columns, shape.planes, shape.tileBytes, shape.stages),
          "matmul<kShape>(ctx, blockX(),",
          {.threads = kMatmulThreads,
           .blocks = int32_t(kernel.cuda.getBlocks()),
           .tokensPerBlock = kMatmulTokens,
           .dynamicShared = shape.sharedBytes()},
          shape.scratchBytes(kernel.schedule.getTokens())};
}

/// The entry that writes a prompt's activations into the workspace.
static LogicalResult printMatmulInput(CudaKernel &kernel, graph::LinearOp first,
                                      StringRef constant) {
  CodeWriter &code = kernel.code;
  kernel.openEntry("_input", {.threads = kInputThreads, .tokensPerBlock = 1});
  code.line(constant.str());
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
  return success();
}

LogicalResult printCudaMatmul(CudaKernel &kernel) {
  auto segments = matchLinear(kernel.func);
  if (failed(segments))
    return failure();
  graph::LinearOp first = segments->front().linears.front();
  const int columns = int(graph::widthOf(first.getX()));
  const int planes = kernel.schedule.getForm() == kernel::Form::Split ? 2 : 1;
  MatmulText text = kernel.cuda.getWarpgroup()
                        ? warpgroupText(kernel, columns, planes, *segments)
                        : matmulText(kernel, columns, planes, *segments);
  kernel.result.sharedBytes = text.scratch;
  if (failed(printMatmulInput(kernel, first, text.constant)))
    return failure();
  CodeWriter &code = kernel.code;
  kernel.openEntry("", text.stage);
  code.line(text.constant);
  kernel.waitHere();
  code.open(text.call);
  for (size_t i = 0; i < segments->size(); ++i)
    if (failed(printSegment(kernel, code, (*segments)[i],
                            i + 1 < segments->size() ? "," : ");",
                            kernel.cuda.getWarpgroup() != 0)))
      return failure();
  code.close("");
  code.close();
  return success();
}

} // namespace lathe
