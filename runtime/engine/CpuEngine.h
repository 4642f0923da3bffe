//===- CpuEngine.h - executes a plan on the CPU -----------------*- C++ -*-===//
//
// Resolves every operand of every launch to an address once, and runs entries:
// all threads walk the launches together with a barrier in between. Device
// memory is host memory here.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_CPUENGINE_H
#define LATHE_RUNTIME_ENGINE_CPUENGINE_H

#include "runtime/engine/Engine.h"
#include "runtime/engine/KernelProvider.h"
#include "runtime/engine/ThreadTeam.h"
#include "runtime/memory/WeightStore.h"

namespace lathe {

struct EngineOptions {
  int threads = 1;
  int64_t context = 4096;     ///< positions that fit in the KV caches
  int64_t prefillChunk = 256; ///< most prompt tokens per run of the trunk
  LoadProgress progress;      ///< may be null
};

class CpuEngine : public Engine {
public:
  /// Loads the weights. Errors: those of the source and of the provider,
  /// capacityError. `plan` and `kernels` must outlive the engine.
  static StatusOr<std::unique_ptr<CpuEngine>>
  create(const Plan &plan, KernelProvider &kernels, WeightSource &weights,
         const EngineOptions &options);
  ~CpuEngine() override;

  StatusOr<RowsView> run(std::string_view function, std::span<const Input> in,
                         int64_t tokens, int64_t position) override;
  Status setSampling(const SamplerOptions &options,
                     int32_t vocabLimit) override;
  StatusOr<int32_t> sample() override;
  Status startMtp() override;
  Status reset() override;
  StatusOr<std::vector<float>> state(std::string_view name) override;

  /// From now on adds the seconds of every launch, barrier included, to
  /// `seconds[kernel]`; null stops. The vector has an element per kernel.
  void recordTimes(std::vector<double> *seconds) { times = seconds; }

  ThreadTeam &threads() { return team; }

private:
  struct Bound;
  CpuEngine(const Plan &plan, const EngineOptions &options);
  Status bind(KernelProvider &kernels);
  Status allocate();
  void touchMemory();
  void *resolve(const PlannedOperand &operand, const Bound &entry) const;
  void launchAll(Bound &entry, int64_t tokens, int64_t position,
                 bool settle = false);
  void settleStates();
  Bound *find(std::string_view function, int64_t tokens);
  StatusOr<RowsView> toHost(RowsView rows) override { return rows; }
  Status choose(std::string_view head, RowsView hidden, int64_t position,
                std::span<int32_t> tokens) override;
  Status keepRows(RowsView rows, int64_t at) override;
  RowsView keptRows(int64_t at, int64_t count) override;

  EngineOptions options;
  ThreadTeam team;
  WeightStore weights;
  AlignedBuffer states, arena, io, scratch;
  AlignedBuffer kept; ///< rows of the backlog
  int64_t keptWidth = 0;
  std::vector<uint8_t *> stateAt;
  std::vector<std::unique_ptr<Bound>> entries;
  LatheBarrier kernelBarrier{0, 0};
  std::optional<Sampler> sampler;
  int32_t sampledVocab = 0;
  std::vector<double> *times = nullptr;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_CPUENGINE_H
