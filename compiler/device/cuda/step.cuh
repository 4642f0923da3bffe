//===- step.cuh - all launches of a step in one ----------------*- CUDA -*-===//
//
// The persistent step: one block per SM runs the stages of a whole decode step,
// the same device functions that the launches of their own call, hence the same
// bits: no sum depends on which block does what.
//
// A stage begins when all blocks have finished the one before. Weights depend
// on nobody: the warp that fetches them runs through the stages by itself, so
// the rings fill with the weights of the next matvec while its activations are
// awaited.
//
// Its blocks wait for each other, so all of them must get onto the GPU: a
// cooperative launch, or one behind launches that wait for nobody.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_DEVICE_CUDA_STEP_CUH
#define LATHE_COMPILER_DEVICE_CUDA_STEP_CUH

#include "compiler/device/cuda/matvec.cuh"
#include "compiler/device/cuda/operands.cuh"

namespace lathe {

/// kBlocks blocks of kWarps + kMatvecFinishers + 1 warps; kRings for all
/// matvecs, whose readers are kWarps.
template <UnitRingShape kRings, int kWarps, int kBlocks> class PersistentStep {
public:
  /// Threads that take part in a stage: all but the warp that fetches.
  static constexpr int kThreads = 32 * (kWarps + kMatvecFinishers);
  static constexpr int kGrid = kBlocks;
  using Team = WarpTeam<kWarps + kMatvecFinishers, 0>;

  /// `stages`: how often matvec() and other() will be called.
  LATHE_DEVICE_MEMBER PersistentStep(const LatheLaunch &ctx, int stages)
      : ctx(ctx), stages(stages), role{warp()}, rings{sharedMemory()},
        shared(sharedMemory() + kRings.bytes()),
        arrivals(ctx.counters + LATHE_COUNTERS - 1) {}

  LATHE_DEVICE_MEMBER void prepare() const {
    rings.prepare([](int) { return 1; });
    if (threadX() < 2 * kMatvecBuffers) // every matvec's own take their place
      barrierInit((Barrier *)shared + threadX(), 1);
    barrierInitFence();
    syncThreads();
  }
  LATHE_DEVICE_MEMBER bool fetches() const { return role.fetches(); }
  LATHE_DEVICE_MEMBER static Team team() { return Team(); }
  LATHE_DEVICE_MEMBER UnitWriter<kRings> writer() const {
    return UnitWriter<kRings>(rings, UnitWriter<kRings>::reader());
  }
  LATHE_DEVICE_MEMBER UnitReader<kRings> reader() const {
    const int reader = role.multiplies() ? role.warp : 0;
    return UnitReader<kRings>(rings, reader, reader);
  }

  template <MatvecShape kShape, class List, class Writer>
  LATHE_DEVICE_MEMBER void fetch(const List &list, Writer &writer) const {
    constexpr MatvecShape kAlone = kShape.alone();
    static_assert(kShape.warps == kWarps &&
                  kShape.unitBytes <= kRings.unitBytes);
    Matvec<kAlone, List, WarpReaders<kAlone>>(ctx, list, place(), role.warp)
        .fetch(writer);
  }

  /// A matvec; multiply(matvec) as in launchMatvec.
  template <MatvecShape kShape, class List, class Multiply>
  LATHE_DEVICE_MEMBER void matvec(const List &list, Multiply multiply) {
    const int stage = next++;
    constexpr MatvecShape kAlone = kShape.alone();
    const Matvec<kAlone, List, WarpReaders<kAlone>> matvec(ctx, list, place(),
                                                           role.warp);
    if (role.warp == 0) {
      awaitStage(stage);
      if (lane() < 2 * kMatvecBuffers)
        barrierEnd((Barrier *)shared + lane());
      matvec.prepare(0, 1);
      barrierInitFence();
    }
    Team().sync();
    if (role.multiplies()) {
      if (matvec.works())
        multiply(matvec);
      return;
    }
    matvec.finish(role.warp - kWarps, kMatvecFinishers);
    syncWarp();
    if (lane() == 0)
      leave(stage, 1);
  }

  /// Any other stage: run(shared, block), which all threads of the team call.
  template <class Run> LATHE_DEVICE_MEMBER void other(Run run) {
    const int stage = next++;
    if (role.warp == 0)
      awaitStage(stage);
    Team().sync();
    run(shared + 2 * kMatvecBuffers * 8, blockX());
    Team().sync();
    if (threadX() == 0)
      leave(stage, kMatvecFinishers);
  }

private:
  LATHE_DEVICE_MEMBER MatvecPlace place() const {
    return {shared, blockX(), kBlocks};
  }
  /// What all blocks together add to the arrivals per stage: every finisher
  /// one.
  static constexpr u32 kArrivals = kBlocks * kMatvecFinishers;

  /// By one warp: waits until all blocks have left the stage before.
  LATHE_DEVICE_MEMBER void awaitStage(int stage) const {
    if (lane() == 0)
      waitForCount(arrivals, stage * kArrivals);
    syncWarp();
  }
  /// By a thread that has seen all writes of what it counts for.
  LATHE_DEVICE_MEMBER void leave(int stage, int count) const {
    if (stage + 1 < stages)
      return signalCount(arrivals, count);
    fenceDevice();
    // Nobody waits any more: the last one leaves zero behind.
    if (atomicAddDevice(arrivals, (u32)count) + count == stages * kArrivals)
      *arrivals = 0;
  }

  const LatheLaunch &ctx;
  const int stages;
  int next = 0; ///< stage
  const MatvecRoles<kWarps, kMatvecFinishers> role;
  const UnitRings<kRings> rings;
  char *const shared; ///< of a stage
  u32 *const arrivals;
};

} // namespace lathe

#endif // LATHE_COMPILER_DEVICE_CUDA_STEP_CUH
