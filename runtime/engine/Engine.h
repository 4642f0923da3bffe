//===- Engine.h - one sequence of a model, on some device -------*- C++ -*-===//
//
// Executes a plan: owns the memory of one sequence (weights, states,
// workspace), runs entries and keeps the position. CpuEngine.h and CudaEngine.h
// are the two kinds. Nothing is allocated after creation. Not thread-safe.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_ENGINE_H
#define LATHE_RUNTIME_ENGINE_ENGINE_H

#include "runtime/artifact/Plan.h"
#include "runtime/base/Status.h"
#include "runtime/engine/Sampler.h"

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace lathe {

/// Rows of floats with a stride, inside the engine's memory: host memory where
/// a function says so, else the device's.
struct RowsView {
  const float *data = nullptr;
  int64_t rows = 0, width = 0, stride = 0;

  std::span<const float> row(int64_t i) const {
    return {data + i * stride, size_t(width)};
  }
};

class Engine {
public:
  virtual ~Engine();

  /// Runs the trunk over `tokens` after what was fed before, in chunks, and
  /// advances the position. With `allRows`, calls it with the hidden rows of
  /// every chunk. Afterwards hidden() is the last chunk's rows.
  /// usageError when the context is full or an id is not below the vocabulary.
  Status feed(std::span<const int32_t> tokens,
              const std::function<Status(RowsView hidden)> &allRows = nullptr);

  /// Hidden rows of the last chunk that was fed; device memory.
  RowsView hidden() const { return lastHidden; }

  /// Runs the head over rows of hidden, as many at once as it takes, and calls
  /// `sink` with the logits of each batch in host memory, valid during the
  /// call.
  Status logits(RowsView hidden, const std::function<Status(RowsView)> &sink);
  /// The head over the last token that was fed; host memory.
  StatusOr<RowsView> lastLogits();

  /// Runs any entry: `inputs` in its order, token ids (host memory) or rows
  /// (device memory). REQUIRES: an entry of `function` for this many tokens.
  struct Input {
    std::span<const int32_t> tokens;
    RowsView rows;
  };
  virtual StatusOr<RowsView> run(std::string_view function,
                                 std::span<const Input> in, int64_t tokens,
                                 int64_t position) = 0;

  /// How sample() and step() choose; ids from `vocabLimit` on are never chosen
  /// (0: no limit). Greedy until called. usageError for bad options.
  virtual Status setSampling(const SamplerOptions &options,
                             int32_t vocabLimit) = 0;
  /// Chooses the token that follows what was fed.
  virtual StatusOr<int32_t> sample() = 0;
  /// Feeds `token` and chooses the next one.
  virtual StatusOr<int32_t> step(int32_t token);

  /// Zeroes every state and starts a new sequence.
  virtual Status reset() = 0;

  /// The floats of a state by its name in the plan; empty if unknown. A
  /// convolution's are its last inputs, oldest first, whatever the device
  /// keeps.
  virtual StatusOr<std::vector<float>> state(std::string_view name) const = 0;

  int64_t position() const { return nextPosition; }
  int64_t context() const { return contextSize; }
  int64_t vocab() const { return vocabSize; }
  /// Bytes of parameters that one decode step reads.
  int64_t weightBytesPerStep() const;

protected:
  /// `plan` must outlive the engine. `prefillChunk`: most tokens per run.
  Engine(const Plan &plan, int64_t context, int64_t prefillChunk);

  /// `rows` in host memory.
  virtual StatusOr<RowsView> toHost(RowsView rows) = 0;
  /// The last hidden row as the head's input.
  StatusOr<Input> lastRow() const;
  Status checkTokens(std::span<const int32_t> tokens) const;

  const Plan &plan;
  const int64_t contextSize, prefillChunk;
  int64_t vocabSize = 0;
  int64_t nextPosition = 0;
  RowsView lastHidden;
};

/// Floats from row to row of an activation.
int64_t activationStride(int64_t width);

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_ENGINE_H
