#include "compiler/emit/CudaStep.h"

#include "compiler/device/cuda/linear_sizes.h"
#include "compiler/emit/CodeWriter.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FormatVariadic.h"

using llvm::formatv;

namespace lathe {

/// More slots in a ring would only hold what memory cannot deliver in time.
static constexpr int kMostStages = 8;

/// Rings that leave room for the stages; no stages if there is none.
static UnitRingShape ringsFor(const std::vector<CudaStepKernel> &kernels,
                              int warps, const CudaStepLimits &limits) {
  UnitRingShape rings{warps, warps, 0, 0};
  int shared = 0;
  for (auto [index, kernel] : kernels) {
    rings.unitBytes = std::max(rings.unitBytes, int(kernel->step.unitBytes));
    shared = std::max(shared, int(kernel->step.sharedBytes));
  }
  // Stages that are no matvec lie behind the barriers of those that are.
  shared += 2 * kMatvecBuffers * 8;
  for (int stages = 1; stages <= kMostStages; ++stages) {
    UnitRingShape larger = rings;
    larger.stages = stages;
    if (larger.bytes() + shared > limits.sharedPerBlock)
      break;
    rings.stages = stages;
  }
  return rings;
}

static void printSwitch(CodeWriter &code,
                        const std::vector<CudaStepKernel> &kernels,
                        std::string EmittedStepPart::*statements) {
  code.open("for (int i = 0; i < count; ++i) {");
  code.line("const LatheStage &stage = launches[i];");
  code.line("const auto ops = StageOperands{stage};");
  code.line("switch (stage.kernel) {");
  for (auto [index, kernel] : kernels) {
    const std::string &text = kernel->step.*statements;
    if (text.empty())
      continue;
    code.open(formatv("case {0}: {{", index).str());
    code.line(text);
    code.line("break;");
    code.close();
  }
  code.line("}");
  code.close();
}

std::optional<EmittedKernel>
emitCudaStep(std::string_view name, const std::vector<CudaStepKernel> &kernels,
             const CudaStepLimits &limits) {
  int warps = 0;
  for (auto [index, kernel] : kernels)
    warps = std::max(warps, int(kernel->step.warps));
  const UnitRingShape rings = ringsFor(kernels, warps, limits);
  if (warps == 0 || rings.stages == 0)
    return std::nullopt;
  EmittedKernel result;
  result.name = name;
  result.headers = {"step.cuh"};
  llvm::StringSet<> seen;
  for (auto [index, kernel] : kernels)
    for (const std::string &header : kernel->headers)
      if (seen.insert(header).second)
        result.headers.push_back(header);

  EmittedStage stage{.entry = result.name,
                     .threads = 32 * (warps + kMatvecFinishers + 1),
                     .blocks = limits.blocks,
                     .dynamicShared = limits.sharedPerBlock};
  CodeWriter code;
  for (const std::string &header : result.headers)
    code.line("#include \"compiler/device/cuda/" + header + "\"");
  code.line("");
  code.line("namespace lathe {");
  code.line("");
  for (auto [index, kernel] : kernels)
    code.paste(kernel->step.text);
  code.line(formatv("LATHE_KERNEL({0}, 1)", stage.threads).str());
  code.open(result.name +
            "(LatheLaunch ctx, const LatheStage *launches, int count, "
            "int stages) {");
  code.line(
      formatv("using Step = PersistentStep<UnitRingShape{{{0}, {0}, {1}, {2}}, "
              "{0}, {3}>;",
              warps, rings.stages, rings.unitBytes, limits.blocks)
          .str());
  code.line("Step step(ctx, stages);");
  code.line("step.prepare();");
  code.open("if (step.fetches()) {");
  code.line("auto writer = step.writer();");
  printSwitch(code, kernels, &EmittedStepPart::fetch);
  code.line("return;");
  code.close();
  code.line("waitForPrevious();");
  code.line("launchNext();");
  code.line("auto ring = step.reader();");
  printSwitch(code, kernels, &EmittedStepPart::call);
  code.close();
  code.line("");
  code.line("} // namespace lathe");
  result.text = code.take();
  result.stages.push_back(std::move(stage));
  return result;
}

} // namespace lathe
