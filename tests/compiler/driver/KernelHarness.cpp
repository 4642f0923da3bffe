#include "tests/compiler/driver/KernelHarness.h"

#include "compiler/cache/ObjectCache.h"
#include "runtime/engine/ThreadTeam.h"

#include <cmath>
#include <thread>

using namespace mlir;

namespace lathe::difftest {

KernelHarness::KernelHarness(const Shape &shape)
    : shape(shape), context(MLIRContext::Threading::DISABLED),
      module(lowerModel(context, shape)) {
  compile();
}

void KernelHarness::compile() {
  auto cache = need(ObjectCache::open(LATHE_KERNEL_CACHE));
  compiler = need(
      KernelCompiler::create(need(hostTarget(shape.avx2)), cache.get(), 2));
  std::vector<KernelSource> sources;
  for (kernel::FuncOp func : kernels()) {
    auto result = emitCpuKernel(func);
    if (failed(result))
      llvm::report_fatal_error("a kernel cannot be emitted");
    sources.push_back({result->name, result->text});
    emitted[result->name] = std::move(*result);
  }
  functions = need(compiler->compile(sources));
}

void KernelHarness::launch(kernel::FuncOp func, const RandomValues &random,
                           LaunchOperands &operands, Comparison &result) {
  std::vector<void *> args;
  for (GuardedMemory *memory : operands.interface())
    args.push_back(memory->data());
  const std::string name = func.getSymName().str();
  const LatheKernel kernel = functions.at(name);
  ThreadTeam team(2);
  LatheBarrier barrier{0, 0};
  GuardedMemory shared, local[2];
  shared.reserve(size_t(emitted.at(name).sharedBytes), kPoison);
  for (GuardedMemory &own : local)
    own.reserve(size_t(emitted.at(name).localBytes), kPoison);
  team.run([&](int thread) {
    LatheContext ctx{};
    ctx.thread = thread;
    ctx.threads = team.size();
    ctx.tokens = int(random.tokens);
    ctx.position = int(random.position);
    ctx.capacity = int(random.capacity);
    ctx.shared = shared.data();
    ctx.local = local[thread].data();
    ctx.barrier = &barrier;
    ctx.yield = [] { std::this_thread::yield(); };
    kernel(args.data(), &ctx);
  });
  if (!shared.guardIsIntact() || !local[0].guardIsIntact() ||
      !local[1].guardIsIntact())
    result.problem = "wrote behind its scratch";
}

Comparison KernelHarness::compare(kernel::FuncOp func, int64_t tokens) {
  RandomValues random(generator, shape.vocab, tokens, 60);
  LaunchOperands operands =
      makeOperands(func, random, [&](Operand &operand, plan::Layout layout) {
        placeOnCpu(operand, layout, random.capacity);
      });
  Comparison comparison;
  launch(func, random, operands, comparison);
  if (comparison.problem.empty())
    comparison.problem = operands.problem();
  std::vector<reference::Value> wanted = runReference(func, operands);
  for (auto [i, value] : llvm::enumerate(wanted))
    comparison.worst = std::fmax(
        comparison.worst, distance(value, operands.found(i), random.capacity));
  return comparison;
}

} // namespace lathe::difftest
