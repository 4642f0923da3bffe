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
    auto form = kernel::symbolizeForm(prefillForm);
    if (!form || *form == kernel::Form::F32) {
      getOperation().emitError()
          << "prefill-form: expected int8 or int15, found " << prefillForm;
      return signalPassFailure();
    }
    SmallVector<Variant> variants;
    for (int64_t tokens : decode)
      variants.push_back({".t" + std::to_string(tokens),
                          schedule(tokens, false, kernel::Form::Int15)});
    if (prefill > 0)
      variants.push_back(
          {".p" + std::to_string(prefill), schedule(prefill, true, *form)});

    auto functions = llvm::to_vector(getOperation().getOps<func::FuncOp>());
    auto kernels = llvm::to_vector(getOperation().getOps<kernel::FuncOp>());
    for (const Variant &variant : variants) {
      for (kernel::FuncOp func : kernels)
        clone(func, variant.suffix).setScheduleAttr(variant.schedule);
      for (func::FuncOp func : functions)
        retarget(clone(func, variant.suffix), variant);
    }
    for (func::FuncOp func : functions)
      func.erase();
    for (kernel::FuncOp func : kernels)
      func.erase();
  }

  kernel::ScheduleAttr schedule(int64_t tokens, bool isPrefill,
                                kernel::Form form) {
    return kernel::ScheduleAttr::get(&getContext(), tokens, isPrefill, form);
  }

  template <class Func> Func clone(Func func, StringRef suffix) {
    OpBuilder builder(func);
    auto copy = cast<Func>(builder.clone(*func));
    copy.setSymName((func.getSymName() + suffix).str());
    return copy;
  }

  void retarget(func::FuncOp func, const Variant &variant) {
    func->setAttr("lathe.schedule", variant.schedule);
    func.walk([&](kernel::LaunchOp launch) {
      launch.setKernel((launch.getKernel() + variant.suffix).str());
    });
  }
};

} // namespace

} // namespace lathe
