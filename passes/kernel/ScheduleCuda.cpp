#include "passes/Passes.h"

#include "compiler/device/cuda/linear_sizes.h"
#include "compiler/device/cuda/warpgroup_sizes.h"
#include "ir/kernel/KernelMatch.h"
#include "runtime/base/CudaPacking.h"
#include "runtime/base/CudaTarget.h"

#include "llvm/ADT/SetVector.h"

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
/// Units in flight per warp.
constexpr int kFewestStages = 1, kMostStages = 4;
/// Beyond the smallest split that fits, so many more are considered.
constexpr int kMoreSplits = 6;
/// Steps of a prompt\'s activations in flight.
constexpr int kMostMatmulStages = 12;

/// Columns of a block from which on it may share them with a twin.
constexpr int kFewestShared = 2048;
/// Most of the blocks that may be left out so that all have twins.
constexpr double kMostWithoutTwin = 0.05;

/// Shared memory that a block of a mixer may have: compiler/device/cuda.
constexpr int kMixerShared = 96 * 1024;

/// What the linears of a kernel need.
struct LinearFacts {
  int columns = 0, tiles = 0, unitBytes = 0, pairs = 1, scales = 0, parts = 2;
  int inputs = 0;       ///< rows that the prologue reads per token
  int norms = 0;        ///< of the prologue
  bool decodes = false; ///< weights keep the issue slots busy
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
    if (shared > 0)
      target.sharedPerBlock = std::min(target.sharedPerBlock, int(shared));
    // 20 slices of 256 columns are a row of 5,120, 12 half a row of 6,144.
    warps = target.sharedPerBlock >= 160 * 1024  ? 20
            : target.sharedPerBlock >= 80 * 1024 ? 12
                                                 : 10;
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
      auto chosen = !func.getSchedule()->getPrefill() ? matvec(func, *facts)
                    : usesWarpgroups(func) ? warpgroupMatmul(func, *facts)
                                           : matmul(func, *facts);
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
      facts.decodes |= desc.format == WeightFormat::NvFp4;
    }
    // Every norm in the body belongs to the prologue.
    for (auto norm : func.getBody().getOps<graph::RmsNormOp>()) {
      facts.scales += int(graph::widthOf(norm.getX()) /
                          norm.getWeight().getType().getDimSize(0));
      ++facts.norms;
    }
    facts.parts = func.getSchedule()->getForm() == kernel::Form::Half ? 1 : 2;
    facts.inputs = inputsOf(segments->front().linears.front());
    return facts;
  }

  /// Arguments with a row per token from which a linear's input is computed.
  static int inputsOf(graph::LinearOp linear) {
    SetVector<Value> needed;
    needed.insert(linear.getX());
    int inputs = 0;
    for (size_t i = 0; i < needed.size(); ++i)
      if (Operation *op = needed[i].getDefiningOp())
        needed.insert(op->operand_begin(), op->operand_end());
      else
        inputs += graph::isActivation(needed[i].getType());
    return inputs;
  }

  MatvecShape shapeOf(const LinearFacts &facts, int tokens, int split,
                      int stages, int twins = 1) const {
    return {facts.columns,   tokens,      split,        warps,       stages,
            facts.unitBytes, facts.pairs, facts.scales, facts.parts, twins};
  }

  /// The share of a matvec's time that the busiest SM's weights take of it if
  /// all had the same: what the split leaves idle.
  double balance(const LinearFacts &facts, int split) const {
    const MatvecShape shape = shapeOf(facts, kMostTokens, split, kFewestStages);
    const int64_t blocks = std::max(target.defaultSms / split, 1);
    const int64_t groups = blocks * shape.groups();
    const int64_t rounds = facts.tiles / groups, rest = facts.tiles % groups;
    const double last = rest == 0            ? 0
                        : 4 * rest <= groups ? 0.25
                        : 2 * rest <= groups ? 0.5
                                             : 1;
    const double busiest =
        (double(rounds) + last) * shape.groups() * shape.splitColumns();
    return double(facts.tiles) * facts.columns / target.defaultSms / busiest;
  }

  /// Few enough columns per block for its warps and, with eight tokens, its
  /// shared memory; of those the one that keeps most SMs busy, where each
  /// further block per row tile must gain what adding up costs.
  FailureOr<int> splitFor(kernel::FuncOp func, const LinearFacts &facts) {
    auto fits = [&](int split) {
      MatvecShape shape = shapeOf(facts, kMostTokens, split, kFewestStages);
      return shape.fits() && shape.sharedBytes() <= target.sharedPerBlock;
    };
    int fewest = 1;
    while (!fits(fewest))
      if (++fewest > 256)
        return FailureOr<int>(func.emitOpError()
                              << "has " << facts.columns
                              << " columns, more than fit into the shared "
                                 "memory of "
                              << target.arch);
    int best = fewest;
    for (int split = fewest; split <= fewest + kMoreSplits; ++split)
      if (fits(split) &&
          balance(facts, split) - 0.02 * (split - best) > balance(facts, best))
        best = split;
    return best;
  }

  FailureOr<kernel::CudaAttr> matvec(kernel::FuncOp func,
                                     const LinearFacts &facts) {
    auto split = splitFor(func, facts);
    if (failed(split))
      return failure();
    const int tokens = int(func.getSchedule()->getTokens());
    int64_t items = int64_t(facts.tiles) * *split;
    int64_t blocks = std::min<int64_t>(target.defaultSms, items);
    blocks = std::max<int64_t>(blocks / *split, 1) * *split;
    const int twins = twinsFor(facts, tokens, blocks, *split);
    blocks = blocks / (*split * twins) * *split * twins;
    auto bytes = [&](int stages) {
      return shapeOf(facts, tokens, *split, stages, twins).sharedBytes();
    };
    // A block fills its SM: of two small ones the scheduler may put both on one
    // SM while kernels overlap, and leave another idle.
    int stages = kMostStages;
    while (stages > kFewestStages && bytes(stages) > target.sharedPerBlock)
      --stages;
    return kernel::CudaAttr::get(&getContext(), blocks, *split, warps, stages,
                                 1, 0, twins);
  }

  /// Whether `blocks` of a matvec share activations in pairs: one operand, room
  /// for it, and so much to prepare that it takes longer than waiting for a
  /// twin. That was measured: docs/performance.md.
  int twinsFor(const LinearFacts &facts, int tokens, int64_t blocks,
               int split) const {
    const int64_t paired = blocks / (2 * split) * (2 * split);
    const MatvecShape shape =
        shapeOf(facts, tokens, split, kFewestStages + 1, 2);
    const bool fits = shape.sharedBytes() <= target.sharedPerBlock &&
                      shape.splitColumns() >= kFewestShared;
    const bool isMuch =
        tokens > 4 ||
        (tokens > 2 && (split > 1 || facts.decodes || facts.inputs > 1));
    // What a second norm leaves lies where a twin puts that of the first.
    return hasClusters(target) && isMuch && facts.parts == 1 &&
                   facts.norms <= 1 && fits &&
                   double(blocks - paired) <= kMostWithoutTwin * double(blocks)
               ? 2
               : 1;
  }

  /// Tensor cores round sums towards zero. Only the other way keeps those of an
  /// Int4 group apart, which matters where activations are exact.
  bool usesWarpgroups(kernel::FuncOp func) const {
    auto isInt4 = [](graph::LinearOp linear) {
      return linear.getWeight().getType().getFormat() == WeightFormat::Int4;
    };
    return hasWarpgroupMma(target) &&
           (func.getSchedule()->getForm() != kernel::Form::Split ||
            llvm::none_of(func.getBody().getOps<graph::LinearOp>(), isInt4));
  }

  /// Tokens per tile for which the multiprocessors, each working on a tile at a
  /// time, are done first. Wider tiles read less, so a tie is theirs.
  int64_t tileTokens(int64_t rowBlocks, int64_t tokens, int64_t widest) const {
    int64_t best = 0, least = 0;
    for (int64_t width = widest; width >= 64; width -= 16) {
      // What a step costs however few tokens it has, in tokens.
      constexpr int64_t kFixed = 160;
      const int64_t tiles = rowBlocks * ((tokens + width - 1) / width);
      const int64_t waves = (tiles + target.defaultSms - 1) / target.defaultSms;
      const int64_t time = waves * (width + kFixed);
      if (!best || time < least)
        best = width, least = time;
    }
    return best;
  }

  FailureOr<kernel::CudaAttr> warpgroupMatmul(kernel::FuncOp func,
                                              const LinearFacts &facts) {
    int64_t rowBlocks = 0;
    auto segments = matchLinear(func);
    for (const LinearSegment &segment : *segments) {
      int64_t rows = graph::LinearOp(segment.linears.front())
                         .getWeight()
                         .getType()
                         .getRows();
      int64_t tiles = (rows + 15) / 16 * int64_t(segment.linears.size());
      rowBlocks += (tiles + kWarpgroupTiles - 1) / kWarpgroupTiles;
    }
    const int planes =
        func.getSchedule()->getForm() == kernel::Form::Split ? 2 : 1;
    const int64_t tokens = func.getSchedule()->getTokens();
    // Conversions and both parts of 128 tokens do not fit into the registers.
    const int64_t width =
        tileTokens(rowBlocks, tokens, planes == 2 ? 112 : 128);
    const int64_t tiles = rowBlocks * ((tokens + width - 1) / width);
    for (int stages = kMostMatmulStages; stages >= 2; --stages)
      if (WarpgroupShape{facts.columns, planes, facts.unitBytes, int(width),
                         stages}
              .sharedBytes() <= target.sharedPerBlock)
        return kernel::CudaAttr::get(
            &getContext(), std::min<int64_t>(tiles, target.defaultSms), 1,
            kWarpgroupUsers, stages, 1, width, 1);
    return FailureOr<kernel::CudaAttr>(
        func.emitOpError() << "does not fit into the shared memory of "
                           << target.arch);
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
