#include "passes/Passes.h"

#include "runtime/base/KernelAbi.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/Support/MathExtras.h"

namespace lathe {
#define GEN_PASS_DEF_PLANMEMORY
#include "passes/Passes.h.inc"
} // namespace lathe

using namespace mlir;

namespace lathe {

using plan::Space;

namespace {

/// First-fit allocation of byte ranges.
class Arena {
public:
  int64_t allocate(int64_t size) {
    int64_t offset = 0;
    auto place = used.begin();
    for (; place != used.end(); ++place) {
      if (place->first - offset >= size)
        break;
      offset = place->second;
    }
    used.insert(place, {offset, offset + size});
    peak = std::max(peak, offset + size);
    return offset;
  }
  void release(int64_t offset) {
    llvm::erase_if(used, [&](auto range) { return range.first == offset; });
  }
  int64_t peakBytes() const { return peak; }

private:
  SmallVector<std::pair<int64_t, int64_t>> used; ///< sorted [begin, end)
  int64_t peak = 0;
};

/// Parameters and states by name, across the entries of a module.
struct Numbering {
  llvm::MapVector<StringRef, graph::WeightOp> weights;
  llvm::MapVector<StringRef, Type> states;

  template <class Map> static int64_t indexIn(Map &map, StringRef name) {
    return std::distance(map.begin(), map.find(name));
  }
};

/// Plans one function.
class EntryPlanner {
public:
  EntryPlanner(func::FuncOp func, kernel::ScheduleAttr schedule,
               Numbering &numbering)
      : func(func), schedule(schedule), numbering(numbering) {}

  LogicalResult run(OpBuilder &builder);

private:
  LogicalResult placeArguments();
  LogicalResult placeResults();
  LogicalResult planLaunch(kernel::LaunchOp launch, OpBuilder &body);
  FailureOr<plan::RefAttr> refOf(Value value);
  plan::RefAttr ref(Space space, int64_t value) {
    return plan::RefAttr::get(func.getContext(), space, value);
  }

  func::FuncOp func;
  kernel::ScheduleAttr schedule;
  Numbering &numbering;
  Arena arena;
  DenseMap<Value, plan::RefAttr> places;
  DenseMap<Value, Operation *> lastUse;
  SmallVector<Type> inputs, outputs;
};

} // namespace

/// Arguments come as inputs, then states; the position is in the context of
/// every launch and has no place.
LogicalResult EntryPlanner::placeArguments() {
  for (BlockArgument argument : func.getArguments()) {
    Type type = argument.getType();
    if (isa<IndexType>(type))
      continue;
    if (!graph::isState(type)) {
      places[argument] = ref(Space::Input, inputs.size());
      inputs.push_back(type);
      continue;
    }
    auto name = func.getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                                  "lathe.name");
    if (!name)
      return func.emitOpError() << "argument " << argument.getArgNumber()
                                << ": expected a lathe.name on a state";
    auto [it, fresh] = numbering.states.try_emplace(name.getValue(), type);
    if (!fresh && it->second != type)
      return func.emitOpError()
             << "state " << name << ": expected " << it->second
             << " as in another function, found " << type;
    places[argument] =
        ref(Space::State, Numbering::indexIn(numbering.states, name));
  }
  return success();
}

/// Results that are activations are written where the caller wants them.
LogicalResult EntryPlanner::placeResults() {
  Operation *end = func.getBody().front().getTerminator();
  for (Value result : end->getOperands()) {
    if (graph::isState(result.getType()))
      continue;
    if (!result.getDefiningOp<kernel::LaunchOp>() || places.contains(result))
      return end->emitOpError()
             << "expected every result to be computed, and returned once";
    places[result] = ref(Space::Output, outputs.size());
    outputs.push_back(result.getType());
  }
  return success();
}

FailureOr<plan::RefAttr> EntryPlanner::refOf(Value value) {
  if (auto weight = value.getDefiningOp<graph::WeightOp>()) {
    auto [it, fresh] = numbering.weights.try_emplace(weight.getName(), weight);
    if (!fresh && it->second.getType() != weight.getType())
      return weight.emitOpError()
             << "expected " << it->second.getType() << " as elsewhere, found "
             << weight.getType();
    return ref(Space::Weight,
               Numbering::indexIn(numbering.weights, weight.getName()));
  }
  return places.lookup(value);
}

LogicalResult EntryPlanner::planLaunch(kernel::LaunchOp launch,
                                       OpBuilder &body) {
  SmallVector<Attribute> operands;
  SmallVector<Value> states;
  for (Value operand : launch.getOperands()) {
    if (isa<IndexType>(operand.getType()))
      continue;
    auto place = refOf(operand);
    if (failed(place))
      return failure();
    operands.push_back(*place);
    if (graph::isState(operand.getType()))
      states.push_back(operand);
  }
  for (Value result : launch.getResults()) {
    if (graph::isState(result.getType())) {
      // A state is updated in place: the new value takes the old one's place.
      auto old = llvm::find_if(states, [&](Value state) {
        return state.getType() == result.getType();
      });
      if (old == states.end())
        return launch.emitOpError() << "returns a state it was not given";
      if (lastUse.lookup(*old) != launch)
        return launch.emitOpError()
               << "updates a state in place that is read later";
      places[result] = places.lookup(*old);
      states.erase(old);
      continue;
    }
    if (!places.contains(result)) {
      int64_t stride = llvm::alignTo(graph::widthOf(result), LATHE_LANES);
      int64_t bytes = schedule.getTokens() * stride * int64_t(sizeof(float));
      places[result] = ref(Space::Arena, arena.allocate(bytes));
    }
    operands.push_back(places.lookup(result));
  }
  plan::LaunchOp::create(body, launch.getLoc(), launch.getKernel(),
                         body.getArrayAttr(operands));
  auto releaseIfDead = [&](Value value) {
    plan::RefAttr place = places.lookup(value);
    auto last = lastUse.find(value);
    if (place && place.getSpace() == Space::Arena &&
        (last == lastUse.end() || last->second == launch))
      arena.release(place.getValue());
  };
  llvm::SmallPtrSet<Value, 8> seen;
  for (Value operand : launch.getOperands())
    if (seen.insert(operand).second)
      releaseIfDead(operand);
  for (Value result : launch.getResults())
    releaseIfDead(result);
  return success();
}

LogicalResult EntryPlanner::run(OpBuilder &builder) {
  for (Operation &op : func.getBody().front())
    for (Value operand : op.getOperands())
      lastUse[operand] = &op;
  if (failed(placeArguments()) || failed(placeResults()))
    return failure();
  StringRef name = func.getSymName().rsplit('.').first;
  auto entry = plan::EntryOp::create(
      builder, func.getLoc(), name, schedule.getTokens(), schedule.getPrefill(),
      0, builder.getTypeArrayAttr(inputs), builder.getTypeArrayAttr(outputs));
  OpBuilder body = OpBuilder::atBlockEnd(&entry.getBody().emplaceBlock());
  for (auto launch : func.getBody().front().getOps<kernel::LaunchOp>())
    if (failed(planLaunch(launch, body)))
      return failure();
  entry.setArena(arena.peakBytes());
  return success();
}

namespace {
struct PlanMemory : impl::PlanMemoryBase<PlanMemory> {
  void runOnOperation() override {
    Numbering numbering;
    auto functions = llvm::to_vector(getOperation().getOps<func::FuncOp>());
    OpBuilder builder = OpBuilder::atBlockEnd(getOperation().getBody());
    for (func::FuncOp func : functions) {
      auto schedule =
          func->getAttrOfType<kernel::ScheduleAttr>("lathe.schedule");
      if (!schedule) {
        func.emitOpError() << "expected a lathe.schedule; run "
                              "specialize-tokens first";
        return signalPassFailure();
      }
      if (failed(EntryPlanner(func, schedule, numbering).run(builder)))
        return signalPassFailure();
    }
    builder.setInsertionPointToStart(getOperation().getBody());
    for (auto &[name, weight] : numbering.weights) {
      auto layout = weight->getAttrOfType<plan::LayoutAttr>("lathe.layout");
      if (!layout) {
        weight.emitOpError() << "expected a lathe.layout; run assign-layouts "
                                "first";
        return signalPassFailure();
      }
      plan::WeightOp::create(builder, weight.getLoc(), name, weight.getType(),
                             layout.getValue());
    }
    for (auto &[name, type] : numbering.states)
      plan::StateOp::create(builder, getOperation().getLoc(), name, type);
    for (func::FuncOp func : functions)
      func.erase();
  }
};
} // namespace

} // namespace lathe
