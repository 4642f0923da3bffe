#include "compiler/emit/CpuKernels.h"

#include "compiler/device/cpu/scratch.h"
#include "ir/kernel/KernelMatch.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using llvm::formatv;

namespace lathe {

/// Columns per activation scale: the largest power of two up to 128 that
/// divides the width and is at least what the formats need.
static int64_t activationGroup(int64_t width) {
  for (int64_t group : {128, 64, 32, 16})
    if (width % group == 0)
      return group;
  return 0;
}

static LogicalResult printInput(CpuKernel &kernel, graph::LinearOp first,
                                ArrayRef<LinearSegment> segments) {
  int64_t width = graph::widthOf(first.getX());
  bool floats = false, integers = false;
  for (const LinearSegment &segment : segments)
    for (graph::LinearOp linear : segment.linears)
      (linear.getWeight().getType().getGroup() ? integers : floats) = true;
  bool exact = kernel.schedule.getForm() != kernel::Form::Int8;
  int forms = (floats ? kF32 : 0) | (integers ? exact ? kInt15 : kInt8 : 0);
  // Without integer forms any group that divides the width will do.
  int64_t group = integers ? activationGroup(width) : width;
  int64_t tokens = kernel.schedule.getTokens();
  bool shared = kernel.schedule.getPrefill();
  if (integers && group == 0)
    return first.emitOpError()
           << "expected a width that is a multiple of 16, found " << width;
  kernel.result.sharedBytes =
      inputSharedBytes(width, tokens, forms, group, shared);
  kernel.result.localBytes =
      inputLocalBytes(width, tokens, forms, group, shared);

  CodeWriter &code = kernel.code;
  std::string formNames = floats ? "kF32" : "";
  if (integers)
    formNames +=
        std::string(floats ? " | " : "") + (exact ? "kInt15" : "kInt8");
  code.line(formatv("using In = Input<{0}, {1}, {2}, {3}, {4}>;", width, tokens,
                    formNames, group, shared ? "true" : "false")
                .str());
  code.line("In in(ctx);");
  code.open("for (int t = in.begin(); t < in.end(); t += in.step()) {");
  RowPrinter rows(kernel.operands, code);
  int64_t begin = 0;
  for (Value part : inputParts(first)) {
    if (failed(rows.declare(part)))
      return failure();
    auto expression = rows.at(part, "k");
    if (failed(expression))
      return failure();
    if (begin % LATHE_LANES != 0)
      return first.emitOpError() << "expected concatenated widths that are "
                                    "multiples of "
                                 << LATHE_LANES;
    code.line(formatv("in.fill<{0}, {1}>(t, [&](int k) {{ return {2}; });",
                      begin, graph::widthOf(part), *expression)
                  .str());
    begin += graph::widthOf(part);
  }
  code.close();
  code.line("in.ready();");
  return success();
}

static LogicalResult printSegment(CpuKernel &kernel,
                                  const LinearSegment &segment, int index) {
  CodeWriter &code = kernel.code;
  bool pair = segment.linears.size() == 2;
  graph::LinearOp first = segment.linears[0];
  graph::WeightType type = first.getWeight().getType();
  std::string weights = kernel.arg(first.getWeight());
  if (pair) {
    graph::LinearOp second = segment.linears[1];
    weights += ", " + kernel.arg(second.getWeight());
  }
  code.open(formatv("linear{0}<{1}, {2}>(in, split.range({3}), {4},",
                    pair ? "2" : "", formatName(type), type.getRows(), index,
                    weights)
                .str());
  code.open(
      formatv("[&](int t, int row, f32x16 y0{0}) {{", pair ? ", f32x16 y1" : "")
          .str());
  RowPrinter rows(kernel.operands, code);
  for (auto [i, linear] : llvm::enumerate(segment.linears))
    rows.bind(graph::LinearOp(linear).getResult(), "y" + std::to_string(i));
  for (auto &[result, value] : segment.outputs) {
    if (failed(rows.declare(value)))
      return failure();
    auto expression = rows.at(value, "row");
    if (failed(expression))
      return failure();
    code.line(formatv("store((float *)args[{0}] + (i64)t * strideOf({1}) + "
                      "row, {2});",
                      kernel.operands.ofResult(result), graph::widthOf(value),
                      *expression)
                  .str());
  }
  code.close("});");
  code.close("");
  return success();
}

LogicalResult printLinear(CpuKernel &kernel) {
  auto segments = matchLinear(kernel.func);
  if (failed(segments))
    return failure();
  graph::LinearOp first = segments->front().linears.front();
  if (failed(printInput(kernel, first, *segments)))
    return failure();
  std::string costs;
  for (const LinearSegment &segment : *segments) {
    int64_t bytes = 0;
    for (graph::LinearOp linear : segment.linears)
      bytes += linear.getWeight().getType().getDesc().byteSize();
    costs += (costs.empty() ? "" : ", ") + std::to_string(bytes);
  }
  kernel.code.line("Split<" + costs + "> split(ctx);");
  for (auto [i, segment] : llvm::enumerate(*segments))
    if (failed(printSegment(kernel, segment, int(i))))
      return failure();
  return success();
}

} // namespace lathe
