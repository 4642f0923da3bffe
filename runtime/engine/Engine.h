//===- Engine.h - executes a plan on the CPU --------------------*- C++ -*-===//
//
// Owns the memory of one sequence (weights, states, workspace), resolves every
// operand of every launch to an address once, and runs entries: all threads
// walk the launches together with a barrier in between. After create() nothing
// is allocated.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_ENGINE_H
#define LATHE_RUNTIME_ENGINE_ENGINE_H

#include "runtime/artifact/Plan.h"
#include "runtime/base/Status.h"
#include "runtime/engine/KernelProvider.h"
#include "runtime/engine/ThreadTeam.h"
#include "runtime/memory/WeightStore.h"

#include <functional>
#include <memory>
#include <span>
#include <string_view>

namespace lathe {

struct EngineOptions {
  int threads = 1;
  int64_t context = 4096;     ///< positions that fit in the KV caches
  int64_t prefillChunk = 256; ///< most prompt tokens per run of the trunk
  LoadProgress progress;      ///< may be null
};

/// Rows of floats with a stride, inside the engine's memory.
struct RowsView {
  const float *data = nullptr;
  int64_t rows = 0, width = 0, stride = 0;

  std::span<const float> row(int64_t i) const {
    return {data + i * stride, size_t(width)};
  }
};

/// One sequence. Not thread-safe.
class Engine {
public:
  /// Loads the weights. Errors: those of the source and of the provider,
  /// capacityError. `plan` and `kernels` must outlive the engine.
  static StatusOr<std::unique_ptr<Engine>> create(const Plan &plan,
                                                  KernelProvider &kernels,
                                                  WeightSource &weights,
                                                  const EngineOptions &options);
  ~Engine();

  /// Runs the trunk over `tokens` after what was fed before, in chunks, and
  /// advances the position. With `allRows`, calls it with the hidden rows of
  /// every chunk. Afterwards hidden() is the last chunk's rows.
  /// usageError when the context is full or an id is not below the vocabulary.
  Status feed(std::span<const int32_t> tokens,
              const std::function<Status(RowsView hidden)> &allRows = nullptr);

  /// Hidden rows of the last chunk that was fed.
  RowsView hidden() const { return lastHidden; }

  /// Runs the head over rows of hidden, as many at once as it takes, and calls
  /// `sink` with the logits of each batch, valid during the call.
  Status logits(RowsView hidden, const std::function<Status(RowsView)> &sink);
  /// The head over the last token that was fed.
  StatusOr<RowsView> lastLogits();

  /// Runs any entry: `inputs` in its order, token ids or rows. REQUIRES: an
  /// entry of `function` for this many tokens.
  struct Input {
    std::span<const int32_t> tokens;
    RowsView rows;
  };
  StatusOr<RowsView> run(std::string_view function, std::span<const Input> in,
                         int64_t tokens, int64_t position);

  int64_t position() const { return nextPosition; }
  int64_t context() const { return options.context; }
  int64_t vocab() const { return vocabSize; }
  /// Zeroes every state and starts a new sequence.
  void reset();

  /// The raw floats of a state by its name in the plan; empty if unknown.
  std::span<const float> state(std::string_view name) const;

  /// From now on adds the seconds of every launch, barrier included, to
  /// `seconds[kernel]`; null stops. The vector has an element per kernel.
  void recordTimes(std::vector<double> *seconds) { times = seconds; }

  /// Bytes of parameters that one decode step reads.
  int64_t weightBytesPerStep() const;
  ThreadTeam &threads() { return team; }

private:
  struct Bound;
  Engine(const Plan &plan, const EngineOptions &options);
  Status bind(KernelProvider &kernels);
  Status allocate();
  void *resolve(const PlannedOperand &operand, const Bound &entry) const;
  void launchAll(Bound &entry, int64_t tokens, int64_t position);
  Bound *find(std::string_view function, int64_t tokens);

  const Plan &plan;
  EngineOptions options;
  ThreadTeam team;
  WeightStore weights;
  AlignedBuffer states, arena, io, scratch;
  std::vector<uint8_t *> stateAt;
  std::vector<std::unique_ptr<Bound>> entries;
  LatheBarrier kernelBarrier{0, 0};
  std::vector<double> *times = nullptr;
  RowsView lastHidden;
  int64_t nextPosition = 0;
  int64_t vocabSize = 0;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_ENGINE_H
