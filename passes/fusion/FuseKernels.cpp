#include "passes/Passes.h"

#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

namespace lathe {
#define GEN_PASS_DEF_FUSEKERNELS
#include "passes/Passes.h.inc"
} // namespace lathe

using namespace mlir;

namespace lathe {

namespace {

using kernel::Anchor;

/// Operations that become one kernel.
struct Group {
  Anchor anchor;
  Operation *first; ///< its first anchor operation
  llvm::SetVector<Operation *> ops;
};

/// Decides the groups of one function. Positions are block order.
class Grouping {
public:
  explicit Grouping(Block &block) : block(block) {
    int position = 0;
    for (Operation &op : block)
      order[&op] = position++;
  }

  void run() {
    placeAnchors();
    absorbEpilogues();
    absorbPrologues();
    placeRest();
  }

  /// The groups so that each comes after those it reads; fails when two
  /// groups read each other.
  FailureOr<SmallVector<Group *>> sorted();
  int position(Operation *op) const { return order.lookup(op); }
  ArrayRef<Operation *> unfused() const { return alone; }

private:
  void placeAnchors();
  void absorbEpilogues();
  void absorbPrologues();
  void placeRest();
  bool isEpilogueOf(Operation *op, Group *group) const;
  Group *soleUser(Operation *op) const;

  Group *add(Anchor anchor, Operation *op) {
    groups.push_back(std::make_unique<Group>(Group{anchor, op, {}}));
    put(op, groups.back().get());
    return groups.back().get();
  }
  void put(Operation *op, Group *group) {
    group->ops.insert(op);
    groupOf[op] = group;
  }

  Block &block;
  DenseMap<Operation *, int> order;
  DenseMap<Operation *, Group *> groupOf;
  std::vector<std::unique_ptr<Group>> groups;
  SmallVector<Operation *> alone;
};

} // namespace

static bool isElementwise(Operation *op) {
  return isa<graph::AddOp, graph::MulOp, graph::SiluOp, graph::SigmoidOp,
             graph::SwigluOp>(op);
}

/// Operations that stay in the function: parameters and the terminator.
static bool isOutside(Operation *op) {
  return isa<graph::WeightOp>(op) || op->hasTrait<OpTrait::IsTerminator>();
}

/// Can `op` be computed in front of an anchor?
static bool isPrologueOf(Operation *op, Anchor anchor) {
  switch (anchor) {
  case Anchor::Linear:
    return isElementwise(op) ||
           isa<graph::RmsNormOp, graph::SliceOp, graph::ConcatOp>(op);
  case Anchor::Delta:
    return isa<graph::ShortConvOp, graph::SliceOp, graph::L2NormOp,
               graph::DeltaGatesOp>(op);
  case Anchor::Attention:
    return isa<graph::RmsNormOp, graph::RopeOp, graph::SliceOp>(op);
  default:
    return false;
  }
}

void Grouping::placeAnchors() {
  DenseMap<Value, Group *> byInput;
  for (Operation &op : block) {
    if (auto linear = dyn_cast<graph::LinearOp>(op)) {
      Group *&group = byInput[linear.getX()];
      if (group)
        put(&op, group);
      else
        group = add(Anchor::Linear, &op);
    } else if (isa<graph::EmbeddingOp>(op)) {
      add(Anchor::Embedding, &op);
    } else if (isa<graph::DeltaRuleOp>(op)) {
      add(Anchor::Delta, &op);
    } else if (isa<graph::AttentionOp>(op)) {
      add(Anchor::Attention, &op);
    }
  }
}

/// The linears of `group` that `value` is computed from.
static void collectLinears(Value value, const Group &group,
                           llvm::SetVector<Operation *> &linears) {
  Operation *op = value.getDefiningOp();
  if (!op || !group.ops.contains(op))
    return;
  if (isa<graph::LinearOp>(op)) {
    linears.insert(op);
    return;
  }
  for (Value operand : op->getOperands())
    collectLinears(operand, group, linears);
}

/// An elementwise operation follows a linear when its other operands are there
/// before the linear starts. Kernels combine at most two linears of one shape.
bool Grouping::isEpilogueOf(Operation *op, Group *group) const {
  llvm::SetVector<Operation *> linears;
  for (Value operand : op->getOperands()) {
    Operation *def = operand.getDefiningOp();
    if (def && groupOf.lookup(def) == group)
      collectLinears(operand, *group, linears);
    else if (def && order.lookup(def) > order.lookup(group->first))
      return false;
  }
  return linears.size() <= 2;
}

void Grouping::absorbEpilogues() {
  for (Operation &op : block) {
    if (!isElementwise(&op) || groupOf.contains(&op))
      continue;
    for (Value operand : op.getOperands()) {
      Operation *def = operand.getDefiningOp();
      Group *group = def ? groupOf.lookup(def) : nullptr;
      if (group && group->anchor == Anchor::Linear &&
          isEpilogueOf(&op, group)) {
        put(&op, group);
        break;
      }
    }
  }
}

/// The group of all users of `op`, or null when there are several or a result
/// leaves the function. Updated states may leave.
Group *Grouping::soleUser(Operation *op) const {
  Group *sole = nullptr;
  for (Value result : op->getResults())
    for (Operation *user : result.getUsers()) {
      if (graph::isState(result.getType()) && isOutside(user))
        continue;
      Group *group = groupOf.lookup(user);
      if (!group || (sole && sole != group))
        return nullptr;
      sole = group;
    }
  return sole;
}

void Grouping::absorbPrologues() {
  for (Operation &op : llvm::reverse(block)) {
    if (isOutside(&op) || groupOf.contains(&op))
      continue;
    Group *group = soleUser(&op);
    if (group && isPrologueOf(&op, group->anchor))
      put(&op, group);
  }
}

void Grouping::placeRest() {
  for (Operation &op : block) {
    if (isOutside(&op) || groupOf.contains(&op))
      continue;
    bool norm = isa<graph::RmsNormOp>(op);
    add(norm ? Anchor::Norm : Anchor::Elementwise, &op);
    if (!norm)
      alone.push_back(&op);
  }
}

FailureOr<SmallVector<Group *>> Grouping::sorted() {
  SmallVector<Group *> pending, result;
  for (auto &group : groups)
    pending.push_back(group.get());
  llvm::sort(pending, [&](Group *a, Group *b) {
    return order.lookup(a->first) < order.lookup(b->first);
  });
  llvm::SmallPtrSet<Group *, 16> done;
  auto ready = [&](Group *group) {
    for (Operation *op : group->ops)
      for (Value operand : op->getOperands()) {
        Operation *def = operand.getDefiningOp();
        Group *from = def ? groupOf.lookup(def) : nullptr;
        if (from && from != group && !done.contains(from))
          return false;
      }
    return true;
  };
  while (!pending.empty()) {
    auto next = llvm::find_if(pending, ready);
    if (next == pending.end())
      return failure();
    done.insert(*next);
    result.push_back(*next);
    pending.erase(next);
  }
  return result;
}

/// Moves the group's operations into a new kernel.func and launches it before
/// the terminator.
static void outline(Group &group, StringRef name, const Grouping &grouping,
                    OpBuilder &module, OpBuilder &body) {
  SmallVector<Operation *> ops(group.ops.getArrayRef());
  llvm::sort(ops, [&](Operation *a, Operation *b) {
    return grouping.position(a) < grouping.position(b);
  });
  llvm::SetVector<Value> inputs, outputs;
  for (Operation *op : ops) {
    for (Value operand : op->getOperands())
      if (!group.ops.contains(operand.getDefiningOp()))
        inputs.insert(operand);
    for (Value result : op->getResults())
      if (llvm::any_of(result.getUsers(), [&](Operation *user) {
            return !group.ops.contains(user);
          }))
        outputs.insert(result);
  }
  auto in = inputs.getArrayRef(), out = outputs.getArrayRef();
  auto type = module.getFunctionType(TypeRange(ValueRange(in)),
                                     TypeRange(ValueRange(out)));
  Location loc = group.first->getLoc();
  auto func = kernel::FuncOp::create(module, loc, name, type, group.anchor);
  Block *entry = func.addEntryBlock();
  IRMapping mapping;
  mapping.map(in, entry->getArguments());
  OpBuilder inside = OpBuilder::atBlockEnd(entry);
  for (Operation *op : ops)
    inside.clone(*op, mapping);
  SmallVector<Value> results;
  for (Value value : out)
    results.push_back(mapping.lookup(value));
  kernel::ReturnOp::create(inside, loc, results);

  auto launch =
      kernel::LaunchOp::create(body, loc, TypeRange(ValueRange(out)), name, in);
  for (auto [old, fresh] : llvm::zip(out, launch.getResults()))
    Value(old).replaceUsesWithIf(fresh, [&](OpOperand &use) {
      return !group.ops.contains(use.getOwner());
    });
}

namespace {
struct FuseKernels : impl::FuseKernelsBase<FuseKernels> {
  using FuseKernelsBase::FuseKernelsBase;

  void runOnOperation() override {
    OpBuilder builder(&getContext());
    for (auto func : llvm::to_vector(getOperation().getOps<func::FuncOp>())) {
      if (!llvm::hasSingleElement(func.getBody())) {
        func.emitOpError() << "expected one block";
        return signalPassFailure();
      }
      if (failed(fuse(func)))
        return signalPassFailure();
    }
  }

  LogicalResult fuse(func::FuncOp func) {
    Block &block = func.getBody().front();
    Grouping grouping(block);
    grouping.run();
    for (Operation *op : grouping.unfused()) {
      if (strict)
        return op->emitOpError() << "misses its fused kernel";
      op->emitRemark() << op->getName() << " is a kernel of its own";
    }
    SmallVector<Operation *> old;
    for (Operation &op : block)
      if (!isOutside(&op))
        old.push_back(&op);
    OpBuilder module(func);
    OpBuilder body(block.getTerminator());
    auto groups = grouping.sorted();
    if (failed(groups))
      return func.emitOpError() << "groups of operations read each other";
    int number = 0;
    for (Group *group : *groups)
      outline(*group, (func.getSymName() + "." + Twine(number++)).str(),
              grouping, module, body);
    for (Operation *op : llvm::reverse(old))
      op->erase();
    return success();
  }
};
} // namespace

} // namespace lathe
