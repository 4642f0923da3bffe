#include "runtime/engine/CudaMemory.h"

#include "runtime/base/CudaRound.h"
#include "runtime/base/CudaSampling.h"
#include "runtime/memory/WeightStore.h"

#include <algorithm>

namespace lathe {

namespace {

/// Hands out ranges one behind the other.
class Layer {
public:
  explicit Layer(CudaMemory &memory) : memory(memory) {}

  int64_t take(int64_t bytes) {
    int64_t at = memory.total;
    memory.total += (bytes + 255) / 256 * 256;
    return at;
  }
  /// What was taken since the last row becomes a row.
  void row(const std::string &what) {
    if (memory.total > rowStart)
      memory.table.rows.push_back({what, memory.total - rowStart});
    rowStart = memory.total;
  }

private:
  CudaMemory &memory;
  int64_t rowStart = 0;
};

} // namespace

static std::string rowOf(const PlannedWeight &weight) {
  return "weights, " +
         (weight.layout == Layout::Rows || weight.layout == Layout::Tiles
              ? std::string(nameOf(weight.desc.format))
              : std::string("small, f32"));
}

/// Weights of one kind stand together, so that each kind is a row.
static void placeWeights(const Plan &plan, CudaMemory &memory, Layer &layer) {
  memory.weights.resize(plan.weights.size());
  std::vector<std::string> kinds;
  for (const PlannedWeight &weight : plan.weights)
    if (std::ranges::find(kinds, rowOf(weight)) == kinds.end())
      kinds.push_back(rowOf(weight));
  std::ranges::sort(kinds);
  for (const std::string &kind : kinds) {
    for (size_t i = 0; i < plan.weights.size(); ++i)
      if (rowOf(plan.weights[i]) == kind)
        memory.weights[i] =
            layer.take(residentBytes(plan.weights[i], plan.target));
    layer.row(kind);
  }
  memory.weightBytes = memory.total;
}

static void placeStates(const Plan &plan, int64_t context, CudaMemory &memory,
                        Layer &layer) {
  memory.states.resize(plan.states.size());
  const int64_t begin = memory.total;
  bool half = false;
  for (bool kv : {true, false}) {
    for (size_t i = 0; i < plan.states.size(); ++i) {
      const PlannedState &state = plan.states[i];
      if ((state.kind == StateKind::Kv) != kv)
        continue;
      memory.states[i] = layer.take(state.byteSize(context));
      half |= kv && state.elementBytes == 2;
      if (kv)
        memory.table.kvBytesPerToken += state.byteSize(1);
    }
    layer.row(!kv    ? "recurrent and conv state"
              : half ? "kv cache, f16"
                     : "kv cache, f32");
  }
  memory.stateBytes = memory.total - begin;
}

static void placeIo(const Plan &plan, CudaMemory &memory, Layer &layer) {
  std::map<std::string, std::vector<int64_t>> inputs, outputs;
  auto grow = [](std::vector<int64_t> &sizes, const auto &ios, int64_t tokens) {
    sizes.resize(std::max(sizes.size(), ios.size()));
    for (size_t i = 0; i < ios.size(); ++i)
      sizes[i] = std::max(sizes[i], ioBytes(ios[i], tokens));
  };
  for (const PlannedEntry &entry : plan.entries) {
    grow(inputs[entry.function], entry.inputs, entry.tokens);
    grow(outputs[entry.function], entry.outputs, entry.tokens);
  }
  for (auto &[function, sizes] : inputs)
    for (int64_t bytes : sizes)
      memory.io[function].inputs.push_back(layer.take(bytes));
  for (auto &[function, sizes] : outputs)
    for (int64_t bytes : sizes)
      memory.io[function].outputs.push_back(layer.take(bytes));
  layer.row("inputs and outputs");
}

int64_t stepLaunches(const Plan &plan, int64_t tokens) {
  int64_t count = 0;
  for (const char *function : {"trunk", "head"})
    if (const PlannedEntry *entry = plan.find(function, tokens))
      count += int64_t(entry->launches.size());
  return count;
}

/// Most rows of logits that are chosen from at once.
static int64_t chosenRows(const Plan &plan) {
  int64_t rows = 1;
  for (const PlannedEntry &entry : plan.entries)
    if (entry.function == "head" && !entry.prefill)
      rows = std::max(rows, entry.tokens);
  return std::min<int64_t>(rows, LATHE_REPLAY_TOKENS);
}

static void placeDrafts(const Plan &plan, CudaMemory &memory, Layer &layer) {
  const PlannedEntry *mtp = plan.find("mtp", 1);
  if (!mtp)
    return;
  const PlannedIo &hidden = mtp->inputs[1];
  memory.keptRows = layer.take(
      ioBytes(hidden, plan.maxTokens("trunk") + 3 * LATHE_REPLAY_TOKENS));
  memory.draftRow = layer.take(ioBytes(hidden, 1));
  memory.round = layer.take(sizeof(LatheRound));
  if (const PlannedEntry *head = plan.find("draft_head", 1))
    memory.draftIds = layer.take(ioBytes({0}, head->outputs[0].width));
  layer.row("drafts");
}

CudaMemory layOutCuda(const Plan &plan, int64_t context) {
  CudaMemory memory;
  Layer layer(memory);
  memory.table.context = context;
  placeWeights(plan, memory, layer);
  placeStates(plan, context, memory, layer);
  placeIo(plan, memory, layer);
  memory.arena = layer.take(arenaBytes(plan));
  layer.row("activations");
  int64_t scratch = 0;
  for (const PlannedKernel &kernel : plan.kernels)
    scratch = std::max(scratch,
                       kernel.sharedBytes + kernel.bytesPerPosition * context);
  if (const PlannedEntry *head = plan.find("head", 1))
    scratch =
        std::max<int64_t>(scratch, sampleScratch(int(head->outputs[0].width),
                                                 int(chosenRows(plan))));
  memory.scratch = layer.take(scratch);
  layer.row("kernel scratch");
  memory.counters = layer.take(LATHE_COUNTERS * int64_t(sizeof(unsigned)));
  memory.steps = layer.take(int64_t(plan.entries.size()) * 256);
  for (const PlannedStep &step : plan.steps)
    memory.stepTables.push_back(layer.take(stepLaunches(plan, step.tokens) *
                                           int64_t(sizeof(LatheStage))));
  memory.sampling = layer.take(kSamplingBytes);
  layer.row("counters, tables and sampling");
  placeDrafts(plan, memory, layer);
  memory.upload = layer.take(2 * kUploadBytes);
  layer.row("upload");
  memory.table.total = memory.total;
  return memory;
}

} // namespace lathe
