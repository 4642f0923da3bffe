//===- CudaEntries.cpp - launches beside the persistent step --------------===//

#include "compiler/emit/CudaStep.h"
#include "runtime/base/CudaTarget.h"
#include "tests/compiler/cuda/CudaHarness.h"

#include <algorithm>
#include <numeric>

using namespace mlir;

namespace lathe::difftest {

/// Kernels of a step, in order, and what each is run on.
struct CudaHarness::Chain {
  std::vector<kernel::FuncOp> funcs;
  std::vector<LaunchOperands> operands;

  /// What kernel `k` is given, in the order of its interface. An activation is
  /// the last one of its type that a kernel before it makes, if there is one.
  std::vector<GuardedMemory *> interface(size_t k) {
    std::vector<GuardedMemory *> all = operands[k].interface();
    size_t at = 0;
    for (const Operand &operand : operands[k].operands)
      if (!isa<IndexType>(operand.type))
        if (GuardedMemory *made = madeBefore(k, operand.type); made)
          all[at++] = made;
        else
          ++at;
    return all;
  }

private:
  GuardedMemory *madeBefore(size_t k, Type type) {
    while (graph::isActivation(type) && k-- > 0)
      for (Operand &result : operands[k].results)
        if (result.type == type)
          return &result;
    return nullptr;
  }
};

CudaHarness::Chain CudaHarness::chainFor(int64_t tokens, RandomValues &random) {
  Chain chain;
  for (kernel::FuncOp func : decodeKernels(tokens))
    if (!emittedOf(func).step.call.empty()) {
      chain.funcs.push_back(func);
      chain.operands.push_back(operandsFor(func, random));
    }
  return chain;
}

EmittedKernel CudaHarness::loadStep(const std::vector<kernel::FuncOp> &chain,
                                    int blocks) {
  std::vector<CudaStepKernel> parts;
  for (kernel::FuncOp func : chain)
    parts.emplace_back(int32_t(parts.size()), &emittedOf(func));
  auto step = emitCudaStep(
      "step", parts,
      {blocks, need(parseCudaTarget(shape.target)).sharedPerBlock});
  if (!step)
    llvm::report_fatal_error("a step does not fit");
  const CudaText text{.name = step->name,
                      .text = step->text,
                      .entries = {step->name},
                      .step = true};
  Status status = backend.load({&text, 1}, shape.target);
  if (!status.ok())
    llvm::report_fatal_error(messageOf(status).c_str());
  return std::move(*step);
}

std::string CudaHarness::runLaunches(Chain &chain, CudaArguments &arguments) {
  for (size_t k = 0; k < chain.funcs.size(); ++k) {
    arguments.operands = chain.interface(k);
    Status status = backend.run(
        callsOf(emittedOf(chain.funcs[k]), arguments.step.tokens, 0),
        arguments);
    if (!status.ok())
      return messageOf(status);
  }
  return "";
}

std::string CudaHarness::runStep(Chain &chain, CudaArguments &arguments,
                                 int blocks) {
  const EmittedKernel step = loadStep(chain.funcs, blocks);
  const EmittedStage &entry = step.stages.front();
  std::vector<GuardedMemory *> &all = arguments.operands;
  std::vector<CudaStepLaunch> launches;
  int stages = 0;
  for (size_t k = 0; k < chain.funcs.size(); ++k) {
    CudaStepLaunch &launch = launches.emplace_back();
    launch.kernel = int(k);
    for (GuardedMemory *memory : chain.interface(k)) {
      auto found = std::find(all.begin(), all.end(), memory);
      launch.operands.push_back(size_t(found - all.begin()));
      if (found == all.end())
        all.push_back(memory);
    }
    stages += int(emittedOf(chain.funcs[k]).stages.size());
  }
  Status status = backend.runStep(
      {entry.entry, entry.blocks, 1, entry.threads, entry.dynamicShared},
      launches, stages, arguments);
  return status.ok() ? "" : messageOf(status);
}

std::string CudaHarness::compareEntries(int64_t tokens, int blocks) {
  RandomValues random(generator, shape.vocab, tokens, kFarthest);
  Chain apart = chainFor(tokens, random), together = apart;
  CudaArguments arguments;
  arguments.step = {int(random.position), int(tokens), 0};
  arguments.capacity = int(random.capacity);
  size_t scratch = 0;
  for (kernel::FuncOp func : apart.funcs)
    scratch = std::max(scratch, size_t(emittedOf(func).sharedBytes));
  arguments.scratch.reserve(scratch, kPoison);
  arguments.counters.reserve(LATHE_COUNTERS * sizeof(unsigned), 0);
  CudaArguments others = arguments;
  std::string problem = runLaunches(apart, arguments);
  if (problem.empty())
    problem = runStep(together, others, blocks);
  if (problem.empty() && !sameBytes(arguments.counters, others.counters))
    problem = "left a counter that is not zero";
  for (size_t k = 0; k < apart.funcs.size() && problem.empty(); ++k)
    for (size_t i = 0; i < apart.operands[k].results.size(); ++i)
      if (!sameBytes(apart.operands[k].found(i), together.operands[k].found(i)))
        return "result " + std::to_string(i) + " of " +
               apart.funcs[k].getSymName().str();
  return problem;
}

} // namespace lathe::difftest
