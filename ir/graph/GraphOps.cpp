//===- GraphOps.cpp - verifiers of the graph dialect ----------------------===//
//
// A comment names the constraint of ir/SPEC.md that the next check enforces.
//
//===----------------------------------------------------------------------===//

#include "ir/graph/Graph.h"

#include "mlir/IR/Builders.h"

#define GET_OP_CLASSES
#include "ir/graph/GraphOps.cpp.inc"

using namespace mlir;

namespace lathe::graph {

/// Fails with "<label>: expected <what> <expected>, found <found>".
static LogicalResult require(Operation *op, StringRef label, StringRef what,
                             int64_t expected, int64_t found) {
  if (expected == found)
    return success();
  return op->emitOpError() << label << ": expected " << what << " " << expected
                           << ", found " << found;
}

/// Fails unless `part` is positive and divides `whole`.
static LogicalResult requireDivides(Operation *op, StringRef label,
                                    StringRef what, int64_t part,
                                    int64_t whole) {
  if (part > 0 && whole % part == 0)
    return success();
  return op->emitOpError() << label << ": expected " << what << " that divides "
                           << whole << ", found " << part;
}

static LogicalResult requirePositive(Operation *op, StringRef label,
                                     StringRef what, const APFloat &value) {
  if (value.convertToDouble() > 0)
    return success();
  return op->emitOpError() << label << ": expected a positive " << what
                           << ", found " << value.convertToDouble();
}

LogicalResult WeightOp::verify() {
  // weight_c1
  if (getName().empty())
    return emitOpError() << "weight_c1: expected a non-empty name";
  return success();
}

LogicalResult SliceOp::verify() {
  int64_t group = getGroup(), offset = getOffset(), size = getSize();
  // slice_c1
  if (failed(
          requireDivides(*this, "slice_c1", "a group", group, widthOf(getX()))))
    return failure();
  // slice_c2
  if (offset < 0 || size <= 0 || offset > group - size)
    return emitOpError() << "slice_c2: expected a range inside the group of "
                         << group << ", found offset " << offset << " size "
                         << size;
  // slice_c3
  return require(*this, "slice_c3", "result width",
                 widthOf(getX()) / group * size, widthOf(getResult()));
}

LogicalResult ConcatOp::verify() {
  // concat_c1
  if (getInputs().empty())
    return emitOpError() << "concat_c1: expected at least one input";
  int64_t width = 0;
  for (Value input : getInputs())
    width += widthOf(input);
  // concat_c2
  return require(*this, "concat_c2", "result width", width,
                 widthOf(getResult()));
}

LogicalResult RmsNormOp::verify() {
  // rms_norm_c1
  if (failed(requireDivides(*this, "rms_norm_c1", "a weight length",
                            getWeight().getType().getDimSize(0),
                            widthOf(getX()))))
    return failure();
  // rms_norm_c2
  return requirePositive(*this, "rms_norm_c2", "eps", getEps());
}

LogicalResult L2NormOp::verify() {
  // l2_norm_c1
  if (failed(requireDivides(*this, "l2_norm_c1", "a group", getGroup(),
                            widthOf(getX()))))
    return failure();
  // l2_norm_c2
  return requirePositive(*this, "l2_norm_c2", "eps", getEps());
}

LogicalResult RopeOp::verify() {
  // rope_c1
  if (failed(requireDivides(*this, "rope_c1", "a head_dim", getHeadDim(),
                            widthOf(getX()))))
    return failure();
  // rope_c2
  int64_t rotary = getRotaryDim();
  if (rotary <= 0 || rotary % 2 != 0 || rotary > int64_t(getHeadDim()))
    return emitOpError() << "rope_c2: expected an even rotary_dim of at most "
                         << getHeadDim() << ", found " << rotary;
  // rope_c3
  return requirePositive(*this, "rope_c3", "theta", getTheta());
}

LogicalResult EmbeddingOp::verify() {
  // embedding_c1
  return require(*this, "embedding_c1", "result width",
                 getTable().getType().getCols(), widthOf(getResult()));
}

LogicalResult LinearOp::verify() {
  // linear_c1
  if (failed(require(*this, "linear_c1", "input width",
                     getWeight().getType().getCols(), widthOf(getX()))))
    return failure();
  // linear_c2
  return require(*this, "linear_c2", "result width",
                 getWeight().getType().getRows(), widthOf(getResult()));
}

LogicalResult ShortConvOp::verify() {
  ConvType state = getState().getType();
  // short_conv_c1
  if (failed(require(*this, "short_conv_c1", "weight rows", widthOf(getX()),
                     getWeight().getType().getDimSize(0))))
    return failure();
  // short_conv_c2
  if (failed(require(*this, "short_conv_c2", "state channels", widthOf(getX()),
                     state.getChannels())))
    return failure();
  // short_conv_c3
  return require(*this, "short_conv_c3", "state steps",
                 getWeight().getType().getDimSize(1) - 1, state.getSteps());
}

LogicalResult DeltaGatesOp::verify() {
  // delta_gates_c1
  return require(*this, "delta_gates_c1", "parameter length", widthOf(getA()),
                 getALog().getType().getDimSize(0));
}

LogicalResult DeltaRuleOp::verify() {
  RecurrentType state = getState().getType();
  int64_t keyHeads = getKeyHeads();
  // delta_rule_c1
  if (failed(requireDivides(*this, "delta_rule_c1", "a number of key_heads",
                            keyHeads, state.getHeads())))
    return failure();
  // delta_rule_c2
  if (failed(require(*this, "delta_rule_c2", "query and key width",
                     keyHeads * state.getKeyDim(), widthOf(getQ()))))
    return failure();
  // delta_rule_c3
  if (failed(require(*this, "delta_rule_c3", "value width",
                     state.getHeads() * state.getValueDim(), widthOf(getV()))))
    return failure();
  // delta_rule_c4
  return require(*this, "delta_rule_c4", "gate width", state.getHeads(),
                 widthOf(getDecay()));
}

LogicalResult AttentionOp::verify() {
  KvType state = getState().getType();
  // attention_c1
  if (failed(require(*this, "attention_c1", "key and value width",
                     state.getHeads() * state.getHeadDim(), widthOf(getK()))))
    return failure();
  // attention_c2
  return requireDivides(*this, "attention_c2", "a kv width",
                        state.getHeads() * state.getHeadDim(), widthOf(getQ()));
}

} // namespace lathe::graph
