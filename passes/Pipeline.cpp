//===- Pipeline.cpp - the compiler, in order ------------------------------===//

#include "passes/Passes.h"

#include "mlir/Pass/PassManager.h"

using namespace mlir;

namespace lathe {

LogicalResult runPipeline(ModuleOp module, const PipelineOptions &options,
                          const StageObserver &observe) {
  auto stage = [&](StringRef name,
                   std::vector<std::unique_ptr<Pass>> passes) -> LogicalResult {
    PassManager manager(module.getContext());
    for (auto &pass : passes)
      manager.addPass(std::move(pass));
    if (failed(manager.run(module)))
      return failure();
    if (observe)
      observe(name, module);
    return success();
  };
  auto list = [](auto... passes) {
    std::vector<std::unique_ptr<Pass>> result;
    (result.push_back(std::move(passes)), ...);
    return result;
  };

  FuseKernelsOptions fuse;
  fuse.strict = options.strict;
  SpecializeTokensOptions specialize;
  specialize.decode.assign(options.decodeTokens.begin(),
                           options.decodeTokens.end());
  specialize.prefill = options.prefillTokens;
  specialize.prefillForm = options.prefillForm;
  specialize.decodeForm =
      options.target == "cpu" ? "int15" : options.decodeForm;
  ScheduleCudaOptions cuda;
  cuda.arch = options.planTarget.empty() ? options.target : options.planTarget;
  cuda.sms = options.sms;
  cuda.shared = options.planShared;
  std::vector<std::unique_ptr<Pass>> fusion;
  if (options.replay)
    fusion.push_back(createReplayStates());
  if (options.draftRows > 0) {
    DraftHeadOptions draft;
    draft.rows = options.draftRows;
    draft.format = options.draftFormat;
    fusion.push_back(createDraftHead(draft));
  }
  auto kernels =
      list(createAssignLayouts(), createSpecializeTokens(specialize));
  if (options.target != "cpu")
    kernels.push_back(createScheduleCuda(cuda));
  kernels.push_back(createMergeKernels());

  fusion.push_back(createFuseKernels(fuse));
  if (failed(stage("graph", {})) || failed(stage("fused", std::move(fusion))) ||
      failed(stage("kernel", std::move(kernels))) ||
      failed(stage("plan", list(createPlanMemory()))))
    return failure();
  return success();
}

} // namespace lathe
