#include "compiler/driver/PlanExport.h"

#include "ir/graph/Graph.h"
#include "ir/plan/Plan.h"
#include "runtime/base/CudaAbi.h"
#include "runtime/base/KernelAbi.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace lathe {

static PlannedWeight exportWeight(plan::WeightOp op) {
  PlannedWeight weight;
  weight.name = op.getName().str();
  weight.layout = static_cast<Layout>(op.getLayout());
  if (auto type = dyn_cast<graph::WeightType>(op.getType()))
    weight.desc = type.getDesc();
  else
    weight.shape = cast<ShapedType>(op.getType()).getShape().vec();
  return weight;
}

static PlannedState exportState(plan::StateOp op, bool cpu) {
  PlannedState state;
  state.name = op.getName().str();
  llvm::TypeSwitch<Type>(op.getType())
      .Case<graph::KvType>([&](auto type) {
        state.kind = StateKind::Kv;
        state.dims = {type.getHeads(), type.getHeadDim()};
        state.elementBytes = int32_t(type.elementBytes());
      })
      .Case<graph::ConvType>([&](auto type) {
        state.kind = StateKind::Conv;
        state.dims = {type.getSteps(), type.getChannels()};
        state.ring = type.getReplay() ? LATHE_REPLAY_RING
                     : cpu            ? 0
                                      : LATHE_CONV_RING;
      })
      .Case<graph::RecurrentType>([&](auto type) {
        state.kind = StateKind::Recurrent;
        state.dims = {type.getHeads(), type.getKeyDim(), type.getValueDim()};
        state.ring = type.getReplay() ? LATHE_REPLAY_RING : 0;
      });
  return state;
}

static PlannedIo exportIo(Attribute attr) {
  Type type = cast<TypeAttr>(attr).getValue();
  return {graph::isTokens(type) ? 0 : graph::widthOf(type)};
}

static PlannedEntry exportEntry(plan::EntryOp op,
                                const llvm::StringMap<int32_t> &kernels) {
  PlannedEntry entry;
  entry.function = op.getName().str();
  entry.tokens = op.getTokens();
  entry.prefill = op.getPrefill();
  entry.arenaBytes = op.getArena();
  for (Attribute attr : op.getInputs())
    entry.inputs.push_back(exportIo(attr));
  for (Attribute attr : op.getOutputs())
    entry.outputs.push_back(exportIo(attr));
  for (auto launch : op.getBody().front().getOps<plan::LaunchOp>()) {
    PlannedLaunch planned{kernels.lookup(launch.getKernel()), {}};
    for (Attribute attr : launch.getOperands()) {
      auto ref = cast<plan::RefAttr>(attr);
      planned.operands.push_back(
          {static_cast<PlannedOperand::Space>(ref.getSpace()), ref.getValue()});
    }
    entry.launches.push_back(std::move(planned));
  }
  return entry;
}

PlannedKernel exportKernel(const EmittedKernel &kernel) {
  PlannedKernel planned{kernel.name,
                        kernel.sharedBytes,
                        kernel.bytesPerPosition,
                        kernel.localBytes,
                        {}};
  for (const EmittedStage &stage : kernel.stages) {
    PlannedStage &to = planned.stages.emplace_back();
    to.entry = stage.entry;
    to.threads = stage.threads;
    to.blocks = stage.blocks;
    to.tokensPerBlock = stage.tokensPerBlock;
    to.dynamicShared = stage.dynamicShared;
    to.grain = stage.grain;
  }
  return planned;
}

Plan exportPlan(ModuleOp module, const std::vector<EmittedKernel> &kernels,
                std::string_view target) {
  Plan plan;
  plan.target = target;
  llvm::StringMap<int32_t> index;
  for (const EmittedKernel &kernel : kernels) {
    index[kernel.name] = int32_t(plan.kernels.size());
    plan.kernels.push_back(exportKernel(kernel));
  }
  for (auto op : module.getOps<plan::WeightOp>())
    plan.weights.push_back(exportWeight(op));
  for (auto op : module.getOps<plan::StateOp>())
    plan.states.push_back(exportState(op, target == "cpu"));
  for (auto op : module.getOps<plan::EntryOp>())
    plan.entries.push_back(exportEntry(op, index));
  return plan;
}

} // namespace lathe
