//===- Engine.h - one sequence of a model, on some device -------*- C++ -*-===//
//
// Executes a plan: owns the memory of one sequence (weights, states,
// workspace), runs entries and keeps the position. CpuEngine.h and CudaEngine.h
// are the two kinds. Nothing is allocated after creation. Not thread-safe.
//
// Speculation. A round feeds a token and drafts of its successors as one step,
// chooses a token behind each of them as plain decoding would, keeps the drafts
// that agree and takes the others back. Because a step's results do not depend
// on how many tokens it has, a round changes when tokens appear and never
// which. Taking back is counting: of KV caches the next step overwrites the
// rest, and states with replay are told how many tokens of the last step they
// are to fold in (ir/SPEC.md). The policy that sizes rounds is in Speculator.h.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_ENGINE_H
#define LATHE_RUNTIME_ENGINE_ENGINE_H

#include "runtime/artifact/Plan.h"
#include "runtime/base/KernelAbi.h"
#include "runtime/base/Status.h"
#include "runtime/engine/Sampler.h"

#include <array>
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

/// Most tokens of a decode step.
constexpr int64_t kMaxStepTokens = LATHE_REPLAY_TOKENS;

/// What a round came to.
struct Round {
  int64_t drafts = 0;   ///< proposed
  int64_t accepted = 0; ///< the first so many were what is chosen
  /// The accepted drafts and the token chosen behind them, not yet fed:
  /// accepted + 1 tokens.
  std::array<int32_t, kMaxStepTokens> tokens{};

  std::span<const int32_t> chosen() const {
    return {tokens.data(), size_t(accepted + 1)};
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
  /// The same for the text that generation starts from: runs of more than one
  /// token are prompts whatever decode steps the plan has, so that the result
  /// does not depend on these.
  Status prompt(std::span<const int32_t> tokens,
                const std::function<Status(RowsView)> &allRows = nullptr);

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

  /// Whether the plan has a decode step of `tokens` tokens whose tokens can be
  /// taken back.
  bool canVerify(int64_t tokens) const;
  /// A round with these drafts behind `token`.
  /// REQUIRES: canVerify(drafts.size() + 1), and room for them in the context.
  virtual StatusOr<Round> verify(int32_t token,
                                 std::span<const int32_t> drafts);
  /// A round with `drafts` >= 1 drafts of the MTP layer, under the same terms.
  /// REQUIRES: startMtp() before the first token was fed; a token was fed.
  virtual StatusOr<Round> draftAndVerify(int32_t token, int64_t drafts);
  /// Forgets the last `tokens` tokens.
  /// REQUIRES: the last decode step fed no fewer and they were not yet taken.
  void takeBack(int64_t tokens);

  bool hasMtp() const { return plan.find("mtp", 1) != nullptr; }
  /// Keeps what the MTP layer needs to know of the tokens that are fed from now
  /// on. usageError when the plan has no MTP layer or the device no drafts.
  virtual Status startMtp();
  /// From now on the MTP layer is shown no more than the last `rows` of the
  /// tokens that it has not seen; its cache begins anew behind a gap. 0: all.
  /// Its drafts may be worse for it, and nothing is paid for long text that
  /// nobody drafts. REQUIRES: startMtp(); 0 or at least kMaxStepTokens.
  void limitMtp(int64_t rows) { backlog.limit = rows; }
  /// Tokens that the MTP layer has yet to see.
  int64_t mtpBehind() const { return backlog.rows; }
  /// Shows them to it but for the last `keep` of them.
  /// REQUIRES: keep >= 1, the last one's successor not being known; the last
  /// ones are at most half of all where there are any to show.
  Status feedMtp(int64_t keep = 1);
  /// Parameters of the MTP layer as a share of those of a decode step.
  double mtpShare() const;
  /// Rows of the draft head, 0 when drafts use the head.
  int64_t draftVocab() const;
  /// The token of each row of the draft head. REQUIRES: draftVocab() ids.
  Status setDraftIds(std::vector<int32_t> ids);
  /// For benchmarks with random weights: draft i of a round counts as accepted
  /// in this share of rounds, whatever is chosen. Empty: off.
  virtual void forceAcceptance(std::vector<double> shares);

  /// Zeroes every state and starts a new sequence.
  virtual Status reset() = 0;

  /// The floats of a state by its name in the plan; empty if unknown. A
  /// convolution's are its last inputs, oldest first, whatever the device
  /// keeps.
  /// States with replay are settled first.
  virtual StatusOr<std::vector<float>> state(std::string_view name) = 0;

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
  /// The entry that run() is to use.
  const PlannedEntry *entryFor(std::string_view function, int64_t tokens) const;
  /// Runs `head`, "head" or "draft_head", on `hidden`, device memory, and
  /// chooses a token behind each row; `position` is the first one's.
  virtual Status choose(std::string_view head, RowsView hidden,
                        int64_t position, std::span<int32_t> tokens);
  /// Starts a new sequence as far as this class is concerned.
  void restart();

  /// What the MTP layer has yet to see: hidden rows of positions first, first
  /// + 1... and the token behind each, but for the last row's. Slot p - base of
  /// the layer takes the hidden row at position p and the token behind it.
  struct Backlog {
    bool on = false;
    int64_t first = 0, rows = 0;
    int64_t base = 0;  ///< position of the layer's first slot
    int64_t limit = 0; ///< of limitMtp()
    std::vector<int32_t> tokens;
  };
  int64_t backlogCapacity() const { return prefillChunk + 2 * kMaxStepTokens; }
  /// Copies device rows into the memory of the backlog, from its row `at` on.
  virtual Status keepRows(RowsView rows, int64_t at);
  /// Rows of that memory.
  virtual RowsView keptRows(int64_t at, int64_t count);
  /// Called before the backlog's rows are read or the trunk runs: a device that
  /// left them elsewhere brings them there.
  virtual Status settleBacklog();
  /// What every run of the trunk over `count` tokens begins and ends with.
  Status beginRun(int32_t first, int64_t count);
  Status endRun(std::span<const int32_t> tokens, bool decode);

  const Plan &plan;
  const int64_t contextSize, prefillChunk;
  int64_t vocabSize = 0;
  int64_t nextPosition = 0;
  /// Tokens before nextPosition that states with replay have not folded in.
  int64_t pendingTokens = 0;
  RowsView lastHidden;
  int64_t lastRunStart = 0; ///< position of its first row
  Backlog backlog;
  std::vector<int32_t> draftIds;

private:
  Status feedRun(std::span<const int32_t> tokens);
  StatusOr<RowsView> catchUp(int32_t next);
  StatusOr<RowsView> runBacklog(int64_t rows);
  Status makeRoom(int64_t count, int32_t next);
  void forget(int64_t rows);
  StatusOr<RowsView> runMtp(std::span<const int32_t> tokens, int64_t at,
                            int64_t count);
  int64_t acceptedOf(std::span<const int32_t> drafts,
                     std::span<const int32_t> chosen);

  bool replays = false, isPrompt = false;
  std::vector<double> forced;
  uint64_t forcedRounds = 0;
};

/// Floats from row to row of an activation.
int64_t activationStride(int64_t width);

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_ENGINE_H
