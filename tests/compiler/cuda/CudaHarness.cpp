#include "tests/compiler/cuda/CudaHarness.h"

#include "tests/compiler/cuda/CudaModels.h"

#include <algorithm>
#include <cmath>

using namespace mlir;

namespace lathe::difftest {

static Shape retarget(Shape shape, const CudaBackend &backend) {
  shape.target = backend.architecture(shape.target);
  return shape;
}

CudaHarness::CudaHarness(Shape wanted, CudaBackend &backend)
    : shape(retarget(std::move(wanted), backend)), backend(backend),
      packer(backend, shape.target), context(MLIRContext::Threading::DISABLED),
      module(lowerModel(context, shape)), funcs(kernelsOf(*module)) {
  compile();
}

static int operandCount(kernel::FuncOp func) {
  LaunchOperands none;
  for (Type type : func.getArgumentTypes())
    none.operands.emplace_back().type = type;
  for (Type type : func.getResultTypes())
    none.results.emplace_back().type = type;
  return int(none.interface().size());
}

void CudaHarness::compile() {
  std::vector<CudaText> texts;
  std::vector<EmittedKernel> kernels = emitForCuda(*module, shape.target);
  for (auto [func, kernel] : llvm::zip(funcs, kernels)) {
    CudaText &text = texts.emplace_back();
    text.name = kernel.name;
    text.text = kernel.text;
    text.operands = operandCount(func);
    for (const EmittedStage &stage : kernel.stages)
      text.entries.push_back(stage.entry);
    emitted[kernel.name] = std::move(kernel);
  }
  Status status = backend.load(texts, shape.target);
  if (!status.ok())
    llvm::report_fatal_error(messageOf(status).c_str());
}

std::vector<kernel::FuncOp> CudaHarness::decodeKernels(int64_t tokens) const {
  std::vector<kernel::FuncOp> decode;
  for (kernel::FuncOp func : funcs)
    if (!func.getSchedule()->getPrefill() &&
        func.getSchedule()->getTokens() == tokens)
      decode.push_back(func);
  return decode;
}

LaunchOperands CudaHarness::operandsFor(kernel::FuncOp func,
                                        RandomValues &random) {
  return makeOperands(func, random, [&](Operand &operand, plan::Layout layout) {
    placeOnCuda(operand, layout, random, packer);
  });
}

std::vector<CudaCall> CudaHarness::callsOf(const EmittedKernel &kernel,
                                           int64_t tokens, int blocks) {
  std::vector<CudaCall> calls;
  for (const EmittedStage &stage : kernel.stages) {
    CudaCall call{stage.entry,
                  blocks ? blocks : stage.blocks,
                  1,
                  stage.threads,
                  stage.dynamicShared,
                  stage.twins};
    if (stage.tokensPerBlock > 0)
      call.gridY =
          int((tokens + stage.tokensPerBlock - 1) / stage.tokensPerBlock);
    calls.push_back(call);
  }
  return calls;
}

std::string CudaHarness::launch(kernel::FuncOp func, LaunchOperands &operands,
                                int64_t tokens, int64_t position,
                                int64_t capacity, int blocks) {
  const EmittedKernel &kernel = emittedOf(func);
  CudaArguments arguments;
  arguments.step = {int(position), int(tokens)};
  arguments.capacity = int(capacity);
  arguments.scratch.reserve(
      size_t(kernel.sharedBytes + kernel.bytesPerPosition * capacity), kPoison);
  arguments.counters.reserve(LATHE_COUNTERS * sizeof(unsigned), 0);
  arguments.operands = operands.interface();
  Status status = backend.run(callsOf(kernel, tokens, blocks), arguments);
  if (!status.ok())
    return messageOf(status);
  const GuardedMemory &counters = arguments.counters;
  if (std::any_of(counters.data(), counters.data() + counters.size(),
                  [](uint8_t byte) { return byte != 0; }))
    return "left a counter that is not zero";
  if (!counters.guardIsIntact() || !arguments.scratch.guardIsIntact())
    return "wrote behind its scratch";
  return operands.problem();
}

Comparison CudaHarness::compare(kernel::FuncOp func, int64_t tokens) {
  RandomValues random(generator, shape.vocab, tokens, kFarthest);
  LaunchOperands operands = operandsFor(func, random);
  Comparison comparison;
  comparison.problem =
      launch(func, operands, tokens, random.position, random.capacity);
  std::vector<reference::Value> wanted = runReference(func, operands);
  for (auto [i, value] : llvm::enumerate(wanted))
    comparison.worst = std::fmax(
        comparison.worst, cudaDistance(value, operands.found(i), random));
  return comparison;
}

bool sameBytes(const GuardedMemory &a, const GuardedMemory &b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string CudaHarness::compareSteps(kernel::FuncOp one, kernel::FuncOp many) {
  const int64_t tokens = many.getSchedule()->getTokens();
  RandomValues random(generator, shape.vocab, tokens, kFarthest);
  LaunchOperands together = operandsFor(many, random);
  LaunchOperands start = together;
  std::string problem =
      launch(many, together, tokens, random.position, random.capacity);
  LaunchOperands step = start;
  for (int64_t t = 0; t < tokens && problem.empty(); ++t) {
    for (auto [i, operand] : llvm::enumerate(start.operands))
      if (!graph::isState(operand.type))
        step.operands[i] = tokenOf(operand, t);
    for (auto [i, result] : llvm::enumerate(start.results))
      step.results[i] = tokenOf(result, t);
    problem = launch(one, step, 1, random.position + t, random.capacity);
    for (auto [i, result] : llvm::enumerate(together.results))
      if (!graph::isState(result.type) &&
          !sameBytes(tokenOf(result, t), step.results[i]))
        return "result " + std::to_string(i) + " of token " + std::to_string(t);
  }
  for (auto [i, operand] : llvm::enumerate(together.operands))
    if (graph::isState(operand.type) && !sameBytes(operand, step.operands[i]))
      return "the state that is argument " + std::to_string(i);
  return problem;
}

std::string CudaHarness::compareGrids(kernel::FuncOp func) {
  const int64_t tokens = func.getSchedule()->getTokens();
  RandomValues random(generator, shape.vocab, tokens, kFarthest);
  const LaunchOperands start = operandsFor(func, random);
  const int grain =
      int(func.getCuda()->getSplit() * func.getCuda()->getTwins());
  LaunchOperands asked = start;
  std::string problem =
      launch(func, asked, tokens, random.position, random.capacity);
  for (int blocks : {grain, 3 * grain}) {
    LaunchOperands other = start;
    if (problem.empty())
      problem =
          launch(func, other, tokens, random.position, random.capacity, blocks);
    for (size_t i = 0; i < asked.results.size(); ++i)
      if (!sameBytes(asked.found(i), other.found(i)))
        return std::to_string(blocks);
  }
  return problem;
}

} // namespace lathe::difftest
