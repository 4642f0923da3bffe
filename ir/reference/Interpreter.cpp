#include "ir/reference/Interpreter.h"

#include "ir/kernel/Kernel.h"
#include "ir/reference/Eval.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace lathe::reference {

WeightProvider::~WeightProvider() = default;

Value initialState(Type type) {
  if (auto conv = dyn_cast<graph::ConvType>(type))
    return ConvState{
        std::vector<float>(size_t(conv.getSteps() * conv.getChannels()))};
  if (auto state = dyn_cast<graph::RecurrentType>(type))
    return RecurrentState{std::vector<float>(
        size_t(state.getHeads() * state.getKeyDim() * state.getValueDim()))};
  assert(isa<graph::KvType>(type) && "not a state");
  return KvState{};
}

//===----------------------------------------------------------------------===//
// Arguments
//===----------------------------------------------------------------------===//

Status checkWeight(const HostWeight *weight, const WeightDesc &desc) {
  if (!weight || weight->desc != desc)
    return modelError("expected a weight of another shape or format");
  size_t bytes = weight->data.size() + 2 * weight->scales.size() +
                 weight->zeros.size() + weight->blockScales.size() +
                 (desc.format == WeightFormat::NvFp4 ? 4 : 0);
  if (int64_t(bytes) != desc.byteSize())
    return modelError("expected " + std::to_string(desc.byteSize()) +
                      " bytes of weight, found " + std::to_string(bytes));
  return absl::OkStatus();
}

static bool isMatrix(const Value &value, int64_t rows, int64_t cols) {
  auto *tensor = std::get_if<Tensor>(&value);
  return tensor && tensor->rows == rows && tensor->cols == cols &&
         int64_t(tensor->data.size()) == rows * cols;
}

template <typename State>
static bool hasSize(const Value &value, int64_t size) {
  auto *state = std::get_if<State>(&value);
  return state && int64_t(state->data.size()) == size;
}

static bool isKv(const Value &value, int64_t width) {
  auto *kv = std::get_if<KvState>(&value);
  return kv && width > 0 && kv->k.size() == kv->v.size() &&
         int64_t(kv->k.size()) % width == 0;
}

static bool isWeight(const Value &value, const WeightDesc &desc) {
  auto *weight = std::get_if<const HostWeight *>(&value);
  return weight && checkWeight(*weight, desc).ok();
}

/// The rows of an activation or token argument.
static std::optional<int64_t> rowsOf(const Value &value) {
  if (auto *tensor = std::get_if<Tensor>(&value))
    return tensor->rows;
  if (auto *tokens = std::get_if<Tokens>(&value))
    return int64_t(tokens->size());
  return std::nullopt;
}

/// Whether `value` is of `type`, with `rows` rows per activation.
static bool fits(const Value &value, Type type, int64_t rows) {
  return TypeSwitch<Type, bool>(type)
      .Case([&](IndexType) {
        auto *index = std::get_if<int64_t>(&value);
        return index && *index >= 0;
      })
      .Case([&](graph::WeightType t) { return isWeight(value, t.getDesc()); })
      .Case([&](graph::KvType t) {
        return isKv(value, t.getHeads() * t.getHeadDim());
      })
      .Case([&](graph::ConvType t) {
        return hasSize<ConvState>(value, t.getSteps() * t.getChannels());
      })
      .Case([&](graph::RecurrentType t) {
        return hasSize<RecurrentState>(value, t.getHeads() * t.getKeyDim() *
                                                  t.getValueDim());
      })
      .Case([&](RankedTensorType t) {
        if (graph::isTokens(t))
          return std::holds_alternative<Tokens>(value) &&
                 *rowsOf(value) == rows;
        if (graph::isActivation(t))
          return isMatrix(value, rows, t.getDimSize(1));
        if (graph::isStaticF32(t, 1))
          return isMatrix(value, 1, t.getDimSize(0));
        return graph::isStaticF32(t, 2) &&
               isMatrix(value, t.getDimSize(0), t.getDimSize(1));
      })
      .Default([](Type) { return false; });
}

static std::string printed(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

static Status checkArguments(FunctionOpInterface func, ArrayRef<Value> args) {
  if (args.size() != func.getNumArguments())
    return usageError("expected " + std::to_string(func.getNumArguments()) +
                      " arguments, found " + std::to_string(args.size()));
  std::optional<int64_t> rows;
  for (auto [value, type] : llvm::zip(args, func.getArgumentTypes())) {
    if (!rows && (graph::isActivation(type) || graph::isTokens(type)))
      rows = rowsOf(value);
    if (!fits(value, type, rows.value_or(0)))
      return usageError("an argument is not a " + printed(type) + " of " +
                        std::to_string(rows.value_or(0)) + " tokens");
  }
  return absl::OkStatus();
}

//===----------------------------------------------------------------------===//
// Execution
//===----------------------------------------------------------------------===//

static StatusOr<Results> eval(kernel::LaunchOp op, const Frame &frame) {
  // Also keeps a kernel that launches itself from running for ever.
  if (isa<kernel::FuncOp>(op->getParentOp()))
    return modelError("a kernel cannot launch a kernel");
  auto callee = SymbolTable::lookupNearestSymbolFrom<kernel::FuncOp>(
      op, op.getKernelAttr());
  if (!callee)
    return modelError("there is no kernel @" + op.getKernel().str());
  std::vector<Value> args;
  for (mlir::Value operand : op->getOperands())
    args.push_back(frame.value(operand));
  return run(callee, std::move(args), frame.weights());
}

static StatusOr<Results> evalOp(Operation &operation, const Frame &frame) {
  return TypeSwitch<Operation *, StatusOr<Results>>(&operation)
      .Case<graph::WeightOp, graph::SiluOp, graph::SigmoidOp, graph::AddOp,
            graph::MulOp, graph::SwigluOp, graph::SliceOp, graph::ConcatOp,
            graph::RmsNormOp, graph::L2NormOp, graph::RopeOp,
            graph::EmbeddingOp, graph::LinearOp, graph::ShortConvOp,
            graph::DeltaGatesOp, graph::DeltaRuleOp, graph::AttentionOp,
            kernel::LaunchOp>([&](auto op) { return eval(op, frame); })
      .Default([](Operation *) {
        return modelError("the reference has no such operation");
      });
}

static StatusOr<Results> runBlock(Block &block, Frame &frame) {
  Results results;
  for (Operation &op : block) {
    if (isa<func::ReturnOp, kernel::ReturnOp>(op)) {
      for (mlir::Value operand : op.getOperands())
        results.push_back(frame.value(operand));
      break;
    }
    StatusOr<Results> values = evalOp(op, frame);
    if (!values.ok())
      return annotate(values.status(), op.getName().getStringRef());
    for (auto [name, value] : llvm::zip(op.getResults(), *values))
      frame.bind(name, std::move(value));
  }
  return results;
}

StatusOr<std::vector<Value>> run(FunctionOpInterface func,
                                 std::vector<Value> args,
                                 WeightProvider &weights) {
  std::string name = "@" + func.getName().str();
  if (!func.getFunctionBody().hasOneBlock())
    return modelError(name + ": expected a body of one block");
  LATHE_RETURN_IF_ERROR(annotate(checkArguments(func, args), name));
  Frame frame(weights);
  for (auto [argument, value] : llvm::zip(func.getArguments(), args))
    frame.bind(argument, std::move(value));
  return runBlock(func.getFunctionBody().front(), frame);
}

} // namespace lathe::reference
