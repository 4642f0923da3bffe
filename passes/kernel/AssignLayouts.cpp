#include "passes/Passes.h"

namespace lathe {
#define GEN_PASS_DEF_ASSIGNLAYOUTS
#include "passes/Passes.h.inc"
} // namespace lathe

using namespace mlir;

namespace lathe {

static constexpr StringLiteral kLayoutAttr = "lathe.layout";

/// The layout that the kernel wants for its argument.
static plan::Layout wantedLayout(BlockArgument argument) {
  for (Operation *user : argument.getUsers()) {
    if (isa<graph::LinearOp>(user))
      return plan::Layout::Tiles;
    if (isa<graph::EmbeddingOp>(user)) {
      auto type = cast<graph::WeightType>(argument.getType());
      return type.getGroup() ? plan::Layout::Tiles : plan::Layout::Rows;
    }
    if (auto conv = dyn_cast<graph::ShortConvOp>(user);
        conv && conv.getWeight() == argument)
      return plan::Layout::Transposed;
  }
  return plan::Layout::Vector;
}

namespace {
struct AssignLayouts : impl::AssignLayoutsBase<AssignLayouts> {
  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    llvm::StringMap<plan::Layout> layouts;
    auto forEachUse = [&](auto visit) {
      getOperation().walk([&](kernel::LaunchOp launch) {
        auto func = symbols.lookup<kernel::FuncOp>(launch.getKernel());
        for (auto [i, operand] : llvm::enumerate(launch.getOperands()))
          if (auto weight = operand.getDefiningOp<graph::WeightOp>())
            visit(weight, func, unsigned(i));
      });
    };
    // Tiles win: they serve multiplication and gathering alike.
    forEachUse([&](graph::WeightOp weight, kernel::FuncOp func, unsigned i) {
      plan::Layout wanted = wantedLayout(func.getArgument(i));
      auto [it, fresh] = layouts.try_emplace(weight.getName(), wanted);
      if (!fresh && wanted == plan::Layout::Tiles)
        it->second = wanted;
    });
    forEachUse([&](graph::WeightOp weight, kernel::FuncOp func, unsigned i) {
      auto attr = plan::LayoutAttr::get(&getContext(),
                                        layouts.lookup(weight.getName()));
      weight->setAttr(kLayoutAttr, attr);
      func.setArgAttr(i, kLayoutAttr, attr);
    });
  }
};
} // namespace

} // namespace lathe
