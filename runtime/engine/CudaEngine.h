//===- CudaEngine.h - executes a plan on one GPU ----------------*- C++ -*-===//
//
// All device memory is one buffer, laid out before it is allocated. Decode
// entries are captured once as CUDA graphs and played; prompts are launched
// directly. A generated token costs one graph launch and one wait, for the
// token to arrive in host memory.
//
// Kernels start while the one before them still runs (programmatic dependent
// launch): each begins to stream its weights and then waits.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_CUDAENGINE_H
#define LATHE_RUNTIME_ENGINE_CUDAENGINE_H

#include "runtime/base/CudaAbi.h"
#include "runtime/cuda/Stream.h"
#include "runtime/engine/CudaMemory.h"
#include "runtime/engine/Engine.h"
#include "runtime/engine/SmHold.h"
#include "runtime/memory/WeightSource.h"
#include "runtime/memory/WeightStore.h"

#include <map>
#include <string>

namespace lathe {

/// Cubins by kernel name; "runtime" is compiler/device/cuda/runtime.cu.
using CudaImages = std::map<std::string, std::string>;

/// How decode steps run: their launches one by one, or one persistent kernel.
/// The results are the same bits.
enum class StepEntry { Auto, Launches, Persistent };

struct CudaEngineOptions {
  int64_t context = 4096;      ///< positions that fit in the KV caches
  int64_t prefillChunk = 1024; ///< most prompt tokens per run of the trunk
  int loadThreads = 2;
  /// Make random parameters on the GPU instead of reading any.
  bool synthetic = false;
  /// Let kernels overlap; off to measure what that gains.
  bool programmatic = true;
  /// Auto measures both after loading and takes the faster one.
  StepEntry entry = StepEntry::Launches;
  LoadProgress progress; ///< may be null
};

class CudaEngine : public Engine {
public:
  /// Checks that it fits, allocates, loads. Errors: capacityError with the
  /// memory table, before anything is allocated; those of the source (null when
  /// synthetic) and of the driver; modelError when an image lacks an entry.
  /// `plan` and `context` must outlive the engine.
  static StatusOr<std::unique_ptr<CudaEngine>>
  create(cuda::Context &context, const Plan &plan, const CudaImages &images,
         WeightSource *weights, const CudaEngineOptions &options);
  ~CudaEngine() override;

  StatusOr<RowsView> run(std::string_view function, std::span<const Input> in,
                         int64_t tokens, int64_t position) override;
  Status setSampling(const SamplerOptions &options,
                     int32_t vocabLimit) override;
  StatusOr<int32_t> sample() override;
  StatusOr<int32_t> step(int32_t token) override;
  StatusOr<Round> draftAndVerify(int32_t token, int64_t drafts) override;
  Status startMtp() override;
  void forceAcceptance(std::vector<double> shares) override;
  Status reset() override;
  StatusOr<std::vector<float>> state(std::string_view name) override;

  /// Bytes that the driver reports as taken by the one allocation, to compare
  /// with the plan's.
  int64_t driverBytes() const { return driverUsed; }
  const CudaMemory &memory() const { return layout; }
  cuda::Context &context() const { return owner; }

  // Measuring. Times are medians in seconds.

  struct Timing {
    double seconds = 0; ///< of all the launches together
    int launches = 0;   ///< CUDA entries, stages counted
  };
  struct TimeOptions {
    int repetitions = 10;
    /// So many multiprocessors are free (hold()); 0: all. A grid that fills
    /// them shrinks with them, if PlannedStage::grain allows.
    int sms = 0;
    /// Launch something of the same shape that does nothing.
    bool empty = false;
  };
  /// One play of the entry's launches for `tokens`, back to back; `kernel`
  /// limits it to the launches of one kernel of the plan (-1: all).
  StatusOr<Timing> time(std::string_view function, int64_t tokens,
                        int32_t kernel, const TimeOptions &options);
  /// Launches [begin, end) of a step, counted as PlannedLaunch over trunk and
  /// head; behind them comes one for the choice of a token.
  StatusOr<Timing> timeRange(int64_t tokens, int64_t begin, int64_t end,
                             int repetitions);
  /// Leaves `sms` multiprocessors to whatever is timed while the result lives.
  StatusOr<std::unique_ptr<SmHold>> hold(int sms);
  /// A whole step: trunk, head and the choice of one token.
  StatusOr<Timing> timeStep(int64_t tokens, int repetitions);
  /// Whether steps of `tokens` run as one persistent kernel.
  bool isPersistent(int64_t tokens) const;
  /// Parts of a round, as its graph has them.
  enum class RoundPart : uint8_t { Drafts, Verify, Accept, All };
  /// What a round consists of, in order: launches of the plan, and a few more.
  struct RoundCall {
    RoundPart part;
    std::string_view function; ///< of the plan; "row", "choice", "accept"
    const PlannedLaunch *launch = nullptr; ///< null for those
  };
  /// REQUIRES of these: startMtp(), a plan with rounds of `drafts`.
  StatusOr<std::vector<RoundCall>> roundCalls(int64_t drafts);
  /// One part of a round, or as much of all of it as the first `calls` make up:
  /// behind a round whose drafts all held, so that there is most to catch up
  /// with, and with a cold L2 cache.
  StatusOr<Timing> timeRound(int64_t drafts, RoundPart part, int repetitions,
                             size_t calls = SIZE_MAX);
  /// Bytes per second at which the GPU reads its weights.
  StatusOr<double> readBandwidth();
  /// Moves the position without computing: what lies in the states is used.
  void skipTo(int64_t position);

private:
  /// An entry of a cubin with its launch shape.
  struct Stage {
    cuda::Function function;
    const PlannedStage *planned;
    int dynamicShared; ///< the plan's, or more to keep a profile
  };
  struct Kernel {
    std::vector<Stage> stages;
  };
  /// What stands for an entry's own inputs and step; 0: these.
  struct Bindings {
    cuda::DeviceAddress inputs[2] = {0, 0};
    cuda::DeviceAddress step = 0;
    std::string_view only{}; ///< of a kernel, stages whose entry ends so
    int sms = 0;             ///< as TimeOptions::sms
    bool empty = false;      ///< as TimeOptions::empty
  };

  CudaEngine(cuda::Context &context, const Plan &plan,
             const CudaEngineOptions &options);
  Status allocate();
  Status loadModules(const CudaImages &images);
  StatusOr<int> sharedOf(const PlannedStage &stage) const;
  Status loadWeights(WeightSource *weights);
  size_t indexOf(const PlannedEntry &entry) const;
  cuda::DeviceAddress stepAddress(const PlannedEntry &entry) const;
  LatheLaunch launchContext(cuda::DeviceAddress step) const;
  cuda::DeviceAddress trunkInput() const;
  cuda::DeviceAddress resolve(const PlannedOperand &operand,
                              const PlannedEntry &entry,
                              const Bindings &bindings) const;
  /// Queues an entry's launches.
  Status launchAll(const PlannedEntry &entry, int64_t tokens, int32_t kernel,
                   const Bindings &bindings, int *count);
  Status launch(const PlannedEntry &entry, const PlannedLaunch &launch,
                int64_t tokens, const Bindings &bindings, int *count);
  Status play(const PlannedEntry &entry, int64_t tokens);
  Status sendStep(const PlannedEntry &entry, int64_t tokens, int64_t position);
  Status send(cuda::DeviceAddress to, const void *from, size_t bytes);
  /// Writes the tables of the persistent steps; chooses the entry.
  Status prepareSteps();
  Status fillStepTable(const PlannedStep &step, cuda::DeviceAddress table);
  StatusOr<bool> persistentIsFaster();
  /// Queues trunk, and head on the trunk's output, of a decode step.
  Status queueStep(int64_t tokens, int *count);
  Status launchPersistent(const PlannedStep &step, int begin, int end,
                          int stages, int *count);
  Status queuePersistent(const PlannedStep &step, int *count);
  Status captureStep();
  /// Where a choice comes from and goes to.
  struct Choosing {
    cuda::DeviceAddress logits;
    int64_t rows;
    cuda::DeviceAddress step; ///< row r is the token at its position + r
    bool draft;               ///< logits of the draft head
    cuda::DeviceAddress tokens, status; ///< a number per row each
  };
  Status queueChoosing(const Choosing &choosing, int *count);
  /// Queues the choice behind each of `rows` rows of logits, the first being
  /// the token at the position in `entry`'s step, and its way to host memory.
  Status queueChoice(cuda::DeviceAddress logits, const PlannedEntry &entry,
                     int *count, int64_t rows = 1, bool draft = false);
  /// Waits for the choices.
  Status takeChoices(std::span<int32_t> tokens);
  StatusOr<int32_t> takeChoice();
  static Status checkChoice(int status);
  Status choose(std::string_view head, RowsView hidden, int64_t position,
                std::span<int32_t> tokens) override;
  Status keepRows(RowsView rows, int64_t at) override;
  RowsView keptRows(int64_t at, int64_t count) override;
  Status settleBacklog() override;
  Status sendSampling();
  Status settleStates();

  cuda::DeviceAddress roundAt(size_t offset) const;
  /// What of a round is to be queued, and what was.
  struct RoundQueue {
    RoundPart part = RoundPart::All;
    size_t calls = SIZE_MAX;
    std::vector<RoundCall> seen{}; ///< all of them, queued or not
    int launches = 0;
    bool take(const RoundCall &call);
  };
  Status queueEntry(const PlannedEntry &entry, RoundPart part,
                    const Bindings &bindings, RoundQueue &queue);
  Status queueRow(const PlannedEntry &mtp, RoundQueue &queue);
  Status queueRoundChoice(const Choosing &choosing, RoundPart part,
                          RoundQueue &queue);
  Status queueDrafts(int64_t drafts, RoundQueue &queue);
  Status queueVerify(int64_t drafts, RoundQueue &queue);
  Status queueAccept(int64_t drafts, RoundQueue &queue);
  Status queueRound(int64_t drafts, RoundQueue &queue);
  Status prepareRound(int32_t token, int64_t drafts);
  RowsView outputOf(const PlannedEntry &entry, int64_t tokens) const;
  StatusOr<RowsView> toHost(RowsView rows) override;
  /// `before` comes before each repetition and is not timed.
  StatusOr<Timing> timeGraph(const cuda::GraphExec &graph, int count,
                             int repetitions,
                             const std::function<Status()> &before = nullptr);
  Status readWeights(int64_t bytes, int64_t *read);

  cuda::Context &owner;
  const CudaEngineOptions options;
  CudaMemory layout;
  cuda::Stream stream;
  cuda::DeviceBuffer buffer;
  int64_t driverUsed = 0;
  cuda::PinnedBuffer slots, readBack, choice, roundBack;
  int64_t nextSlot = 0;
  cuda::Event tokenReady;
  std::vector<cuda::Module> modules;
  std::vector<Kernel> kernels;
  cuda::Module runtime;
  cuda::Function advance, deliver, readKernel, nothingKernel, holdKernel;
  cuda::Function sampleHighest, sampleWeigh, sampleChoose;
  std::map<size_t, cuda::GraphExec> graphs; ///< by entry
  cuda::GraphExec stepGraph;
  bool persistent = false;     ///< the chosen entry
  int64_t devicePosition = -1; ///< of the step graph, -1: unknown
  int32_t deviceToken = -1;    ///< in the trunk's input; -1: unknown
  SamplerOptions sampling;
  int32_t sampledVocab = 0;
  cuda::Function roundRow, roundAccept;
  std::map<int64_t, cuda::GraphExec> roundGraphs; ///< by drafts
  /// The round that the device is ready for; drafts -1: none.
  struct Placed {
    int64_t drafts = -1, position = 0;
    int32_t token = 0;
    bool operator==(const Placed &) const = default;
  } placed;
  bool rowsAreInTrunk = false; ///< the backlog's, from the output's first on
  std::vector<float> forcedShares;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_CUDAENGINE_H
