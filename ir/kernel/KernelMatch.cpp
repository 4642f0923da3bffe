#include "ir/kernel/KernelMatch.h"

#include "runtime/base/KernelAbi.h"

#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

#include <cmath>

using namespace mlir;

namespace lathe {

static void collectLinears(Value value, llvm::SetVector<Operation *> &linears) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return;
  if (isa<graph::LinearOp>(op)) {
    linears.insert(op);
    return;
  }
  for (Value operand : op->getOperands())
    collectLinears(operand, linears);
}

/// One segment per set of linears that some result combines.
FailureOr<SmallVector<LinearSegment>> matchLinear(kernel::FuncOp func) {
  Block &body = func.getBody().front();
  SmallVector<LinearSegment> segments;
  llvm::EquivalenceClasses<Operation *> classes;
  SmallVector<llvm::SetVector<Operation *>> sources;
  Operation *end = body.getTerminator();
  for (Value value : end->getOperands()) {
    collectLinears(value, sources.emplace_back());
    for (Operation *linear : sources.back())
      classes.unionSets(sources.back().front(), linear);
  }
  llvm::MapVector<Operation *, LinearSegment> byLeader;
  for (auto linear : body.getOps<graph::LinearOp>())
    if (classes.contains(linear))
      byLeader[classes.getLeaderValue(linear)].linears.push_back(linear);
  for (auto [i, value] : llvm::enumerate(end->getOperands())) {
    if (sources[i].empty())
      return FailureOr<SmallVector<LinearSegment>>(
          func.emitOpError()
          << "result " << i << " does not come from a linear");
    byLeader[classes.getLeaderValue(sources[i].front())].outputs.push_back(
        {unsigned(i), value});
  }
  for (auto &[leader, segment] : byLeader) {
    if (segment.linears.size() > 2)
      return FailureOr<SmallVector<LinearSegment>>(
          leader->emitOpError() << "combines more than two linears");
    if (segment.linears.size() == 2 &&
        segment.linears[0].getWeight().getType() !=
            segment.linears[1].getWeight().getType())
      return FailureOr<SmallVector<LinearSegment>>(
          segment.linears[1].emitOpError()
          << "expected the weight type "
          << segment.linears[0].getWeight().getType()
          << " to combine the two, found "
          << segment.linears[1].getWeight().getType());
    segments.push_back(std::move(segment));
  }
  return segments;
}

SmallVector<Value> inputParts(graph::LinearOp linear) {
  if (auto concat = linear.getX().getDefiningOp<graph::ConcatOp>())
    return SmallVector<Value>(concat.getInputs());
  return {linear.getX()};
}

graph::RmsNormOp scalingNorm(graph::LinearOp linear) {
  Value value = linear.getX();
  while (Operation *op = value.getDefiningOp()) {
    // What another factor reads too needs its scale there.
    if (value != linear.getX() && !value.hasOneUse())
      break;
    if (auto norm = dyn_cast<graph::RmsNormOp>(op))
      return norm;
    if (isa<graph::SwigluOp>(op))
      value = op->getOperand(1);
    else if (isa<graph::MulOp>(op))
      value = op->getOperand(
          op->getOperand(0).getDefiningOp<graph::RmsNormOp>() ? 0 : 1);
    else
      break;
  }
  return {};
}

/// Requires `value` to be columns [offset, offset + width) of `of`.
static bool isRange(Value value, Value of, int64_t offset) {
  auto slice = value.getDefiningOp<graph::SliceOp>();
  return slice && slice.getX() == of &&
         int64_t(slice.getGroup()) == graph::widthOf(of) &&
         int64_t(slice.getOffset()) == offset;
}

FailureOr<DeltaMatch> matchDelta(kernel::FuncOp func) {
  Block &body = func.getBody().front();
  DeltaMatch m;
  auto rules = body.getOps<graph::DeltaRuleOp>();
  if (!rules.empty()) {
    m.rule = *rules.begin();
    m.gates = m.rule.getDecay().getDefiningOp<graph::DeltaGatesOp>();
    m.q = m.rule.getQ().getDefiningOp<graph::L2NormOp>();
    m.k = m.rule.getK().getDefiningOp<graph::L2NormOp>();
    if (auto v = m.rule.getV().getDefiningOp<graph::SliceOp>())
      m.conv = v.getX().getDefiningOp<graph::ShortConvOp>();
  }
  auto fail = [&](const char *what) {
    return FailureOr<DeltaMatch>(func.emitOpError()
                                 << "the delta kernel needs " << what);
  };
  if (!m.rule || !m.gates || !m.q || !m.k || !m.conv ||
      m.rule.getBeta() != m.gates.getBeta())
    return fail("short_conv, l2_norm of q and k, delta_gates and delta_rule");
  Value c = m.conv.getResult();
  int64_t keys = graph::widthOf(m.rule.getQ());
  if (!isRange(m.q.getX(), c, 0) || !isRange(m.k.getX(), c, keys) ||
      !isRange(m.rule.getV(), c, 2 * keys) ||
      graph::widthOf(c) != 2 * keys + graph::widthOf(m.rule.getV()))
    return fail("q, k and v side by side in the convolution's output");
  graph::RecurrentType state = m.rule.getState().getType();
  if (int64_t(m.q.getGroup()) != state.getKeyDim() ||
      int64_t(m.k.getGroup()) != state.getKeyDim() ||
      m.k.getScale().convertToDouble() != 1.0 || m.q.getEps() != m.k.getEps())
    return fail("l2_norm over heads with one eps and an unscaled key");
  if (state.getReplay() != m.conv.getState().getType().getReplay())
    return fail("replay in both of its states or in none");
  if (state.getKeyDim() % LATHE_LANES || state.getValueDim() % LATHE_LANES)
    return fail("head sizes that are multiples of 16");
  return m;
}

std::vector<Value> DeltaMatch::operands() {
  return {conv.getX(),     gates.getA(),      gates.getB(),    conv.getWeight(),
          gates.getALog(), gates.getDtBias(), conv.getState(), rule.getState()};
}

static FailureOr<PlacedHeads> matchHeads(kernel::FuncOp func, Value value,
                                         int64_t headDim) {
  PlacedHeads m;
  m.rope = value.getDefiningOp<graph::RopeOp>();
  if (m.rope)
    m.norm = m.rope.getX().getDefiningOp<graph::RmsNormOp>();
  if (!m.norm || int64_t(m.rope.getHeadDim()) != headDim ||
      m.norm.getWeight().getType().getDimSize(0) != headDim)
    return FailureOr<PlacedHeads>(
        func.emitOpError()
        << "the attention kernel needs rope of a norm per head on q and k");
  m.source = m.norm.getX();
  m.headStride = headDim;
  if (auto slice = m.source.getDefiningOp<graph::SliceOp>()) {
    if (int64_t(slice.getSize()) != headDim || slice.getOffset() != 0)
      return FailureOr<PlacedHeads>(
          func.emitOpError() << "the attention kernel needs heads at the start "
                                "of their column groups");
    m.headStride = slice.getGroup();
    m.source = slice.getX();
  }
  return m;
}

FailureOr<AttentionMatch> matchAttention(kernel::FuncOp func) {
  AttentionMatch m;
  m.op = *func.getBody().front().getOps<graph::AttentionOp>().begin();
  graph::KvType kv = m.op.getState().getType();
  int64_t headDim = kv.getHeadDim();
  m.heads = graph::widthOf(m.op.getQ()) / headDim;
  auto q = matchHeads(func, m.op.getQ(), headDim);
  auto k = matchHeads(func, m.op.getK(), headDim);
  if (failed(q) || failed(k))
    return failure();
  if (headDim % LATHE_LANES != 0 || m.heads % kv.getHeads() != 0 ||
      !isa<BlockArgument>(m.op.getV()) || k->headStride != headDim ||
      q->rope.getRotaryDim() != k->rope.getRotaryDim() ||
      q->rope.getTheta() != k->rope.getTheta() ||
      q->norm.getPlusOne() != k->norm.getPlusOne() ||
      q->norm.getEps() != k->norm.getEps())
    return FailureOr<AttentionMatch>(
        func.emitOpError()
        << "the attention kernel needs head sizes that are multiples of 16, "
           "whole query groups, dense k and v, and the same norm and rope on q "
           "and k");
  m.q = *q;
  m.k = *k;
  return m;
}

unsigned resultOf(kernel::FuncOp func, Value value) {
  auto results = func.getBody().front().getTerminator()->getOperands();
  return unsigned(llvm::find(results, value) - results.begin());
}

std::vector<double> inverseFrequencies(graph::RopeOp rope) {
  std::vector<double> values;
  for (int64_t i = 0; i < int64_t(rope.getRotaryDim()) / 2; ++i)
    values.push_back(std::pow(rope.getTheta().convertToDouble(),
                              -2.0 * double(i) / double(rope.getRotaryDim())));
  return values;
}

} // namespace lathe
