#include "models/common/ModelBuilder.h"

using namespace mlir;

namespace lathe::models {

ModelBuilder::ModelBuilder(MLIRContext *context, const WeightCatalog &catalog)
    : builder(context), catalog(catalog) {
  context->loadDialect<graph::GraphDialect, func::FuncDialect>();
  module = ModuleOp::create(builder.getUnknownLoc());
}

void ModelBuilder::beginFunction(StringRef name, ArrayRef<Type> inputs) {
  builder.setInsertionPointToEnd(module->getBody());
  function = func::FuncOp::create(builder, location(), name,
                                  builder.getFunctionType(inputs, {}));
  builder.setInsertionPointToStart(function.addEntryBlock());
}

void ModelBuilder::limitTokens(int64_t tokens) {
  function->setAttr("lathe.max_tokens", builder.getI64IntegerAttr(tokens));
}

Value ModelBuilder::input(unsigned index) {
  return function.getArgument(index);
}

Value ModelBuilder::addState(StringRef name, Type type) {
  unsigned index = function.getNumArguments();
  auto attrs = builder.getDictionaryAttr(
      builder.getNamedAttr("lathe.name", builder.getStringAttr(name)));
  (void)function.insertArgument(index, type, attrs, location());
  return function.getArgument(index);
}

void ModelBuilder::endFunction(ArrayRef<Value> outputs,
                               ArrayRef<Value> states) {
  SmallVector<Value> results(outputs);
  results.append(states.begin(), states.end());
  func::ReturnOp::create(builder, location(), results);
  function.setType(builder.getFunctionType(function.getArgumentTypes(),
                                           ValueRange(results).getTypes()));
}

Value ModelBuilder::weight(StringRef name, int64_t rows, int64_t cols) {
  WeightDesc desc{WeightFormat::F32, rows, cols, 0, false};
  auto found = catalog(std::string_view(name.data(), name.size()), rows, cols);
  if (found.ok())
    desc = *found;
  else if (status.ok())
    status = found.status();
  // A checkpoint may name a group size that no weight type has.
  std::string why;
  ScopedDiagnosticHandler handler(
      builder.getContext(), [&](Diagnostic &problem) { why = problem.str(); });
  auto type = graph::WeightType::getChecked(
      [&] { return emitError(location()); }, builder.getContext(), desc.rows,
      desc.cols, desc.format, desc.group, desc.asymmetric);
  if (!type) {
    if (status.ok())
      status = modelError(name.str() + ": " + why);
    type = graph::WeightType::get(
        builder.getContext(),
        WeightDesc{WeightFormat::F32, std::max<int64_t>(rows, 1),
                   std::max<int64_t>(cols, 1), 0, false});
  }
  return graph::WeightOp::create(builder, location(), type, name);
}

Value ModelBuilder::vector(StringRef name, int64_t size) {
  auto type = RankedTensorType::get({size}, builder.getF32Type());
  return graph::WeightOp::create(builder, location(), type, name);
}

Value ModelBuilder::matrix(StringRef name, int64_t rows, int64_t cols) {
  auto type = RankedTensorType::get({rows, cols}, builder.getF32Type());
  return graph::WeightOp::create(builder, location(), type, name);
}

Value ModelBuilder::embedding(Value tokens, StringRef name, int64_t rows,
                              int64_t cols) {
  return graph::EmbeddingOp::create(builder, location(), activation(cols),
                                    tokens, weight(name, rows, cols));
}

Value ModelBuilder::linear(Value x, StringRef name, int64_t rows) {
  return graph::LinearOp::create(builder, location(), activation(rows), x,
                                 weight(name, rows, graph::widthOf(x)));
}

Value ModelBuilder::rmsNorm(Value x, StringRef name, int64_t group, double eps,
                            bool plusOne) {
  return graph::RmsNormOp::create(
      builder, location(), x.getType(), x, vector(name, group),
      builder.getF64FloatAttr(eps), plusOne ? builder.getUnitAttr() : nullptr);
}

Value ModelBuilder::slice(Value x, int64_t group, int64_t offset,
                          int64_t size) {
  int64_t width = graph::widthOf(x) / group * size;
  return graph::SliceOp::create(builder, location(), activation(width), x,
                                group, offset, size);
}

Value ModelBuilder::concat(ArrayRef<Value> inputs) {
  int64_t width = 0;
  for (Value value : inputs)
    width += graph::widthOf(value);
  return graph::ConcatOp::create(builder, location(), activation(width),
                                 inputs);
}

Value ModelBuilder::add(Value a, Value b) {
  return graph::AddOp::create(builder, location(), a.getType(), a, b);
}
Value ModelBuilder::mul(Value a, Value b) {
  return graph::MulOp::create(builder, location(), a.getType(), a, b);
}
Value ModelBuilder::silu(Value x) {
  return graph::SiluOp::create(builder, location(), x.getType(), x);
}
Value ModelBuilder::sigmoid(Value x) {
  return graph::SigmoidOp::create(builder, location(), x.getType(), x);
}

Value ModelBuilder::swigluMlp(Value x, const std::string &prefix,
                              int64_t intermediate) {
  Value gate = linear(x, prefix + ".gate_proj", intermediate);
  Value up = linear(x, prefix + ".up_proj", intermediate);
  Value h =
      graph::SwigluOp::create(builder, location(), gate.getType(), gate, up);
  return linear(h, prefix + ".down_proj", graph::widthOf(x));
}

RankedTensorType ModelBuilder::activation(int64_t width) {
  return graph::activationType(builder.getContext(), width);
}

RankedTensorType ModelBuilder::tokens() {
  return RankedTensorType::get({ShapedType::kDynamic}, builder.getI32Type());
}

StatusOr<OwningOpRef<ModuleOp>> ModelBuilder::finish() {
  LATHE_RETURN_IF_ERROR(status);
  return std::move(module);
}

} // namespace lathe::models
