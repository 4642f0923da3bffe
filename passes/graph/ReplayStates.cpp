#include "passes/Passes.h"

namespace lathe {
#define GEN_PASS_DEF_REPLAYSTATES
#include "passes/Passes.h.inc"
} // namespace lathe

using namespace mlir;

namespace lathe {

static Type replaying(Type type) {
  MLIRContext *context = type.getContext();
  if (auto conv = dyn_cast<graph::ConvType>(type))
    return graph::ConvType::get(context, conv.getSteps(), conv.getChannels(),
                                /*replay=*/true);
  if (auto state = dyn_cast<graph::RecurrentType>(type))
    return graph::RecurrentType::get(context, state.getHeads(),
                                     state.getKeyDim(), state.getValueDim(),
                                     /*replay=*/true);
  return type;
}

namespace {
struct ReplayStates : impl::ReplayStatesBase<ReplayStates> {
  void runOnOperation() override {
    for (auto func : getOperation().getOps<func::FuncOp>()) {
      auto change = [](Value value) {
        value.setType(replaying(value.getType()));
      };
      func.walk(
          [&](Operation *op) { llvm::for_each(op->getResults(), change); });
      llvm::for_each(func.getArguments(), change);
      SmallVector<Type> results;
      for (Type type : func.getResultTypes())
        results.push_back(replaying(type));
      func.setType(FunctionType::get(
          &getContext(), func.getBody().getArgumentTypes(), results));
    }
  }
};
} // namespace

} // namespace lathe
