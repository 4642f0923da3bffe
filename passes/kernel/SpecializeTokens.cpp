#include "passes/Passes.h"

namespace lathe {
#define GEN_PASS_DEF_SPECIALIZETOKENS
#include "passes/Passes.h.inc"
} // namespace lathe

using namespace mlir;

namespace lathe {

namespace {

struct Variant {
  std::string suffix;
  kernel::ScheduleAttr schedule;
};

struct SpecializeTokens : impl::SpecializeTokensBase<SpecializeTokens> {
  using SpecializeTokensBase::SpecializeTokensBase;

  void runOnOperation() override {
    if (!llvm::is_contained({"mixed", "int8", "int15", "half", "split"},
                            prefillForm.getValue())) {
      getOperation().emitError()
          << "prefill-form: expected mixed, int8, int15, half or split, found "
          << prefillForm;
      return signalPassFailure();
    }
    if (!llvm::is_contained({"int15", "mixed", "half", "split"},
                            decodeForm.getValue())) {
      getOperation().emitError()
          << "decode-form: expected int15, mixed, half or split, found "
          << decodeForm;
      return signalPassFailure();
    }
    SmallVector<Variant> variants;
    for (int64_t tokens : decode)
      variants.push_back(
          {".t" + std::to_string(tokens), schedule(tokens, false)});
    if (prefill > 0)
      variants.push_back(
          {".p" + std::to_string(prefill), schedule(prefill, true)});

    SymbolTable symbols(getOperation());
    auto functions = llvm::to_vector(getOperation().getOps<func::FuncOp>());
    auto kernels = llvm::to_vector(getOperation().getOps<kernel::FuncOp>());
    for (const Variant &variant : variants)
      for (func::FuncOp func : functions)
        if (isWanted(func, variant.schedule))
          specialize(func, variant, symbols);
    for (func::FuncOp func : functions)
      func.erase();
    for (kernel::FuncOp func : kernels)
      func.erase();
  }

  kernel::ScheduleAttr schedule(int64_t tokens, bool isPrefill,
                                kernel::Form form = kernel::Form::Int15) {
    return kernel::ScheduleAttr::get(&getContext(), tokens, isPrefill, form);
  }

  template <class Func> Func clone(Func func, StringRef suffix) {
    OpBuilder builder(func);
    auto copy = cast<Func>(builder.clone(*func));
    copy.setSymName((func.getSymName() + suffix).str());
    return copy;
  }

  /// What `mixed` means. On a CPU: norms leave activations of one size, which a
  /// byte holds well; products of gates have long tails, which it does not. On
  /// a GPU: 4-bit weights are less exact than f16 activations; dense ones are
  /// met exactly.
  kernel::Form formOf(kernel::FuncOp func, bool isPrefill) {
    StringRef form = isPrefill ? prefillForm : decodeForm;
    if (form != "mixed")
      return *kernel::symbolizeForm(form);
    auto linears = func.getBody().getOps<graph::LinearOp>();
    if (decodeForm != "int15")
      return llvm::any_of(linears,
                          [](graph::LinearOp linear) {
                            return linear.getWeight().getType().getGroup() > 0;
                          })
                 ? kernel::Form::Half
                 : kernel::Form::Split;
    bool normed = !linears.empty() &&
                  (*linears.begin()).getX().getDefiningOp<graph::RmsNormOp>();
    return normed ? kernel::Form::Int8 : kernel::Form::Int15;
  }

  /// Most tokens that the function asks for at once.
  static int64_t limitOf(func::FuncOp func) {
    auto limit = func->getAttrOfType<IntegerAttr>("lathe.max_tokens");
    return limit ? limit.getInt() : std::numeric_limits<int64_t>::max();
  }

  bool isWanted(func::FuncOp func, kernel::ScheduleAttr s) {
    const int64_t limit = limitOf(func);
    if (s.getPrefill())
      return s.getTokens() <= limit || !llvm::is_contained(decode, limit);
    return s.getTokens() <= limit;
  }

  /// A prefill takes no more tokens at once than the function asks for.
  kernel::ScheduleAttr scheduleFor(func::FuncOp func, const Variant &variant) {
    kernel::ScheduleAttr s = variant.schedule;
    if (!s.getPrefill() || limitOf(func) >= s.getTokens())
      return s;
    return schedule(limitOf(func), true);
  }

  void specialize(func::FuncOp func, const Variant &variant,
                  SymbolTable &symbols) {
    kernel::ScheduleAttr schedule = scheduleFor(func, variant);
    func::FuncOp copy = clone(func, variant.suffix);
    copy->setAttr("lathe.schedule", schedule);
    copy.walk([&](kernel::LaunchOp launch) {
      auto callee = symbols.lookup<kernel::FuncOp>(launch.getKernel());
      kernel::FuncOp fresh = clone(callee, variant.suffix);
      fresh.setScheduleAttr(
          this->schedule(schedule.getTokens(), schedule.getPrefill(),
                         formOf(callee, schedule.getPrefill())));
      launch.setKernel(fresh.getSymName());
    });
  }
};

} // namespace

} // namespace lathe
