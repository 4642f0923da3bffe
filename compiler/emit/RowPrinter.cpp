#include "compiler/emit/RowPrinter.h"

#include "runtime/base/KernelAbi.h"

#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using llvm::formatv;

namespace lathe {

std::string floatLiteral(double value) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%.9g", double(float(value)));
  if (text.find_first_of(".e") == std::string::npos)
    text += ".0";
  return text + "f";
}

KernelOperands::KernelOperands(Block &body) {
  int next = 0;
  for (BlockArgument argument : body.getArguments())
    if (!isa<IndexType>(argument.getType()))
      arguments[argument.getArgNumber()] = next++;
  for (auto [i, value] : llvm::enumerate(body.getTerminator()->getOperands()))
    if (!graph::isState(value.getType()))
      results[unsigned(i)] = next++;
}

LogicalResult RowPrinter::declareCudaScales(graph::RmsNormOp norm,
                                            const std::string &name) {
  int64_t width = graph::widthOf(norm.getX());
  int64_t group = norm.getWeight().getType().getDimSize(0);
  auto x = columnsAt(norm.getX(), "k");
  if (failed(x))
    return failure();
  bool tokens = scope.kind == RowScope::Kind::CudaTokens;
  if (width == group && scope.tokens == 1)
    code.line(formatv("float {0}[1];", name).str());
  else
    code.line(formatv("float *const {0} = {1} + {2};", name, scope.scales,
                      scaleCount * scope.tokens)
                  .str());
  code.line(formatv("rmsScales<{0}, {1}, {2}>({9}, {3}, {4}, {5}, [&](int{6}, "
                    "int k) {{ return {7}; }{8});",
                    scope.tokens, width, group,
                    floatLiteral(norm.getEps().convertToDouble()), name,
                    scope.partials, tokens ? " t" : "", *x,
                    scope.columns.empty() ? "" : ", " + scope.columns,
                    scope.team)
                .str());
  scaleCount += width / group;
  return success();
}

/// Whether four columns from a multiple of four on lie together and aligned in
/// all rows that `value` reads.
static bool isAligned(Value value) {
  if (graph::isActivation(value.getType()) && graph::widthOf(value) % 4 != 0)
    return false;
  Operation *op = value.getDefiningOp();
  if (!op)
    return true;
  if (auto slice = dyn_cast<graph::SliceOp>(op);
      slice &&
      (slice.getGroup() % 4 || slice.getOffset() % 4 || slice.getSize() % 4))
    return false;
  if (auto norm = dyn_cast<graph::RmsNormOp>(op);
      norm && norm.getWeight().getType().getDimSize(0) % 4)
    return false;
  return llvm::all_of(op->getOperands(), isAligned);
}

FailureOr<std::string> RowPrinter::columnsAt(Value value,
                                             const std::string &column) {
  fours = !isCpu() && isAligned(value);
  auto text = at(value, column);
  fours = false;
  return text;
}

LogicalResult RowPrinter::declareScales(graph::RmsNormOp norm) {
  int64_t width = graph::widthOf(norm.getX());
  int64_t group = norm.getWeight().getType().getDimSize(0);
  std::string name = "r" + std::to_string(declared.size());
  if (!isCpu()) {
    if (failed(declareCudaScales(norm, name)))
      return failure();
    declared[norm.getResult()] = name;
    return success();
  }
  if (group != width && group % LATHE_LANES != 0)
    return norm.emitOpError() << "expected groups of a multiple of "
                              << LATHE_LANES << " columns, found " << group;
  std::string eps = floatLiteral(norm.getEps().convertToDouble());
  code.line(formatv("float {0}[{1}];", name, width / group).str());
  if (isa<BlockArgument>(norm.getX())) {
    code.line(formatv("rmsScales<{0}, {1}>({2}, {3}, {4});", width, group,
                      declared.lookup(norm.getX()), eps, name)
                  .str());
  } else {
    auto x = at(norm.getX(), "k");
    if (failed(x))
      return failure();
    code.line(formatv("rmsScalesOf<{0}, {1}>([&](int k) {{ return {2}; }, "
                      "{3}, {4});",
                      width, group, *x, eps, name)
                  .str());
  }
  declared[norm.getResult()] = name;
  return success();
}

LogicalResult RowPrinter::declare(Value value) {
  if (bound.contains(value) || declared.contains(value))
    return success();
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    int index = operands.of(argument);
    if (graph::isActivation(value.getType())) {
      declared[value] = "x" + std::to_string(index);
      code.line(formatv("const float *x{0} = (const float *)args[{0}]{1};",
                        index,
                        isCpu() ? formatv(" + (i64)t * strideOf({0})",
                                          graph::widthOf(value))
                                      .str()
                                : "")
                    .str());
    } else if (graph::isStaticF32(value.getType(), 1)) {
      declared[value] = "w" + std::to_string(index);
      code.line(formatv("const float *w{0} = (const float *)args[{0}];", index)
                    .str());
    }
    return success();
  }
  Operation *op = value.getDefiningOp();
  for (Value operand : op->getOperands())
    if (failed(declare(operand)))
      return failure();
  if (auto norm = dyn_cast<graph::RmsNormOp>(op); norm && norm != unscaled)
    return declareScales(norm);
  return success();
}

/// Elementwise operations as text; {0} and {1} are the operands.
static StringRef templateOf(Operation *op) {
  return llvm::TypeSwitch<Operation *, StringRef>(op)
      .Case<graph::AddOp>([](auto) { return "({0} + {1})"; })
      .Case<graph::MulOp>([](auto) { return "({0} * {1})"; })
      .Case<graph::SiluOp>([](auto) { return "silu({0})"; })
      .Case<graph::SigmoidOp>([](auto) { return "sigmoid({0})"; })
      .Case<graph::SwigluOp>([](auto) { return "(silu({0}) * {1})"; })
      .Default([](auto) { return ""; });
}

FailureOr<std::string> RowPrinter::normAt(graph::RmsNormOp norm,
                                          const std::string &column) {
  auto x = at(norm.getX(), column);
  if (failed(x))
    return failure();
  int64_t group = norm.getWeight().getType().getDimSize(0);
  int64_t groups = graph::widthOf(norm.getX()) / group;
  std::string inGroup =
      groups == 1 ? column : formatv("({0} % {1})", column, group).str();
  std::string index =
      groups == 1 ? "0" : formatv("{0} / {1}", column, group).str();
  if (scope.kind == RowScope::Kind::CudaTokens)
    index = groups == 1 ? "t" : formatv("t * {0} + {1}", groups, index).str();
  std::string scale;
  if (norm != unscaled)
    scale = formatv(" * {0}[{1}]", declared.lookup(norm.getResult()), index);
  return formatv("({0}{1} * ({2}{3}({4} + {5})))", *x, scale,
                 norm.getPlusOne() ? "1.0f + " : "",
                 fours ? "loadFour" : "load", declared.lookup(norm.getWeight()),
                 inGroup)
      .str();
}

FailureOr<std::string> RowPrinter::at(Value value, const std::string &column) {
  if (auto it = bound.find(value); it != bound.end())
    return it->second;
  if (isa<BlockArgument>(value) && isCpu())
    return formatv("load({0} + {1})", declared.lookup(value), column).str();
  if (isa<BlockArgument>(value))
    return formatv(fours ? "loadFour({0} + (i64)t * strideOf({1}) + {2})"
                         : "{0}[(i64)t * strideOf({1}) + {2}]",
                   declared.lookup(value), graph::widthOf(value), column)
        .str();
  Operation *op = value.getDefiningOp();
  if (auto slice = dyn_cast<graph::SliceOp>(op)) {
    int64_t group = slice.getGroup(), size = slice.getSize();
    if (isCpu() && size % LATHE_LANES != 0)
      return FailureOr<std::string>(slice.emitOpError()
                                    << "expected a size that is a multiple of "
                                    << LATHE_LANES << ", found " << size);
    return at(slice.getX(), formatv("({0} / {1} * {2} + {3} + {0} % {1})",
                                    column, size, group, slice.getOffset())
                                .str());
  }
  if (auto norm = dyn_cast<graph::RmsNormOp>(op))
    return normAt(norm, column);
  StringRef pattern = templateOf(op);
  if (pattern.empty())
    return FailureOr<std::string>(
        op->emitOpError() << "cannot be part of an elementwise expression");
  SmallVector<std::string> parts;
  for (Value operand : op->getOperands()) {
    auto part = at(operand, column);
    if (failed(part))
      return failure();
    parts.push_back(*part);
  }
  parts.resize(2);
  return formatv(pattern.data(), parts[0], parts[1]).str();
}

} // namespace lathe
