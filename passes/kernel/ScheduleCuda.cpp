#include "passes/Passes.h"

#include "compiler/device/cuda/linear_sizes.h"
#include "ir/kernel/KernelMatch.h"
#include "runtime/base/CudaPacking.h"
#include "runtime/base/CudaTarget.h"

namespace lathe {
#define GEN_PASS_DEF_SCHEDULECUDA
#include "passes/Passes.h.inc"
} // namespace lathe

using namespace mlir;

namespace lathe {

namespace {

/// Largest decode step: what does not depend on the token count is chosen for
/// it, so that it is the same for every count.
constexpr int kMostTokens = 8;
/// Units in flight per warp: with eight tokens one must do.
constexpr int kFewestStages = 1, kMostStages = 5;

/// Shared memory that a block of a mixer may have: compiler/device/cuda.
constexpr int kMixerShared = 96 * 1024;

/// What the linears of a kernel need.
struct LinearFacts {
  int columns = 0, tiles = 0, unitBytes = 0, pairs = 1, scales = 0;
};

struct ScheduleCuda : impl::ScheduleCudaBase<ScheduleCuda> {
  using ScheduleCudaBase::ScheduleCudaBase;

  void runOnOperation() override {
    auto parsed = parseCudaTarget(arch.getValue());
    if (!parsed.ok()) {
      getOperation().emitError() << "arch: " << messageOf(parsed.status());
      return signalPassFailure();
    }
    target = *parsed;
    // One block per SM prepares the activations once for all its warps.
    warps = target.sharedPerBlock >= 160 * 1024 ? 16 : 8;
    if (sms > 0)
      target.defaultSms = int(sms);
    for (auto func : getOperation().getOps<kernel::FuncOp>())
      if (failed(schedule(func)))
        return signalPassFailure();
  }

  LogicalResult schedule(kernel::FuncOp func) {
    if (!func.getSchedule())
      return func.emitOpError() << "expected a schedule; run specialize-tokens";
    // The teams of attention's first stage are large: one fills an SM.
    const int64_t resident =
        func.getAnchor() == kernel::Anchor::Attention ? 1 : mixersPerSm();
    auto cuda = kernel::CudaAttr::get(
        &getContext(), resident * target.defaultSms, 1, warps, 1, resident);
    if (func.getAnchor() == kernel::Anchor::Linear) {
      auto facts = factsOf(func);
      if (failed(facts))
        return failure();
      auto chosen = func.getSchedule()->getPrefill() ? matmul(func, *facts)
                                                     : matvec(func, *facts);
      if (failed(chosen))
        return failure();
      cuda = *chosen;
    }
    func.setCudaAttr(cuda);
    return success();
  }

  /// Mixers plan for the shared memory of SM_120: how many of those blocks an
  /// SM of this target holds, up to two.
  int64_t mixersPerSm() const {
    return 2 * (kMixerShared + 1024) <= target.sharedPerSm ? 2 : 1;
  }

  FailureOr<LinearFacts> factsOf(kernel::FuncOp func) {
    auto segments = matchLinear(func);
    if (failed(segments))
      return failure();
    LinearFacts facts;
    for (const LinearSegment &segment : *segments) {
      graph::LinearOp first = segment.linears.front();
      facts.columns = int(graph::widthOf(first.getX()));
      WeightDesc desc = first.getWeight().getType().getDesc();
      facts.tiles += int(desc.rows + 15) / 16;
      facts.unitBytes =
          std::max(facts.unitBytes, cudaPacking(desc).unitBytes());
      facts.pairs = std::max(facts.pairs, int(segment.linears.size()));
    }
    // Every norm in the body belongs to the prologue.
    for (auto norm : func.getBody().getOps<graph::RmsNormOp>())
      facts.scales += int(graph::widthOf(norm.getX()) /
                          norm.getWeight().getType().getDimSize(0));
    return facts;
  }

  MatvecShape shapeOf(const LinearFacts &facts, int tokens, int split,
                      int stages) const {
    return {facts.columns, tokens,          split,       warps,
            stages,        facts.unitBytes, facts.pairs, facts.scales};
  }

  /// Few enough columns per block that eight tokens' activations fit beside a
  /// short ring.
  FailureOr<int> splitFor(kernel::FuncOp func, const LinearFacts &facts) {
    for (int split = 1; split <= 64; split *= 2)
      if (shapeOf(facts, kMostTokens, split, kFewestStages).sharedBytes() <=
          target.sharedPerBlock)
        return split;
    return FailureOr<int>(func.emitOpError()
                          << "has " << facts.columns
                          << " columns, more than fit into the shared memory "
                             "of "
                          << target.arch);
  }

  FailureOr<kernel::CudaAttr> matvec(kernel::FuncOp func,
                                     const LinearFacts &facts) {
    auto split = splitFor(func, facts);
    if (failed(split))
      return failure();
    const int tokens = int(func.getSchedule()->getTokens());
    auto bytes = [&](int stages) {
      return shapeOf(facts, tokens, *split, stages).sharedBytes();
    };
    // A block fills its SM: of two small ones the scheduler may put both on one
    // SM while kernels overlap, and leave another idle.
    int stages = kMostStages;
    while (stages > kFewestStages && bytes(stages) > target.sharedPerBlock)
      --stages;
    int64_t items = int64_t(facts.tiles) * *split;
    int64_t blocks = std::min<int64_t>(target.defaultSms, items);
    blocks = std::max<int64_t>(blocks / *split, 1) * *split;
    return kernel::CudaAttr::get(&getContext(), blocks, *split, warps, stages,
                                 1);
  }

  FailureOr<kernel::CudaAttr> matmul(kernel::FuncOp func,
                                     const LinearFacts &facts) {
    auto segments = matchLinear(func);
    int64_t blocks = 0;
    int tileBytes = 0;
    for (const LinearSegment &segment : *segments) {
      WeightDesc desc = graph::LinearOp(segment.linears.front())
                            .getWeight()
                            .getType()
                            .getDesc();
      int tiles = int(desc.rows + 15) / 16 * int(segment.linears.size());
      blocks += (tiles + kMatmulRows / 16 - 1) / (kMatmulRows / 16);
      tileBytes = std::max(tileBytes, matmulTileBytes(cudaPacking(desc)));
    }
    const int planes =
        func.getSchedule()->getForm() == kernel::Form::Split ? 2 : 1;
    for (int stages = 4; stages >= 2; --stages)
      if (MatmulShape{facts.columns, planes, tileBytes, stages}.sharedBytes() <=
          target.sharedPerBlock)
        return kernel::CudaAttr::get(&getContext(), blocks, 1, warps, stages,
                                     1);
    return FailureOr<kernel::CudaAttr>(
        func.emitOpError() << "does not fit into the shared memory of "
                           << target.arch << "; use the prefill form half");
  }

  CudaTarget target;
  int warps = 8; ///< of a matvec's block
};

} // namespace

} // namespace lathe
