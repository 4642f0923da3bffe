#include "passes/Passes.h"

namespace lathe {
#define GEN_PASS_DEF_MERGEKERNELS
#include "passes/Passes.h.inc"
} // namespace lathe

using namespace mlir;

namespace lathe {

/// The kernel's text without its name: equal texts are equal kernels.
static std::string textOf(kernel::FuncOp func) {
  auto copy = cast<kernel::FuncOp>(func->clone());
  copy.setSymName("_");
  std::string text;
  llvm::raw_string_ostream stream(text);
  copy.print(stream);
  copy.erase();
  return text;
}

namespace {
struct MergeKernels : impl::MergeKernelsBase<MergeKernels> {
  void runOnOperation() override {
    llvm::StringMap<std::string> nameOfText, newName;
    int number = 0;
    for (auto func :
         llvm::make_early_inc_range(getOperation().getOps<kernel::FuncOp>())) {
      std::string fresh =
          (stringifyAnchor(func.getAnchor()) + "_" + Twine(number) +
           (func.getSchedule() && func.getSchedule()->getPrefill() ? "_prefill"
                                                                   : ""))
              .str();
      auto [it, isNew] = nameOfText.try_emplace(textOf(func), fresh);
      newName[func.getSymName()] = it->second;
      if (!isNew) {
        func.erase();
        continue;
      }
      func.setSymName(fresh);
      ++number;
    }
    getOperation().walk([&](kernel::LaunchOp launch) {
      launch.setKernel(newName.lookup(launch.getKernel()));
    });
  }
};
} // namespace

} // namespace lathe
