#include "runtime/engine/MemoryPlan.h"

#include "runtime/base/CudaAbi.h"
#include "runtime/base/KernelAbi.h"
#include "runtime/engine/CudaMemory.h"
#include "runtime/engine/Engine.h"
#include "runtime/memory/WeightStore.h"

#include <algorithm>
#include <cstdio>
#include <map>

namespace lathe {

static int64_t roundUp64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

int64_t sharedScratch(const Plan &plan) {
  int64_t bytes = 0;
  for (const PlannedKernel &kernel : plan.kernels)
    bytes = std::max(bytes, kernel.sharedBytes);
  return roundUp64(bytes);
}

int64_t localScratch(const Plan &plan) {
  int64_t bytes = 0;
  for (const PlannedKernel &kernel : plan.kernels)
    bytes = std::max(bytes, kernel.localBytes);
  return roundUp64(bytes);
}

int64_t arenaBytes(const Plan &plan) {
  int64_t bytes = 0;
  for (const PlannedEntry &entry : plan.entries)
    bytes = std::max(bytes, entry.arenaBytes);
  return roundUp64(bytes);
}

int64_t ioBytes(const PlannedIo &io, int64_t tokens) {
  if (io.width == 0)
    return roundUp64(tokens * int64_t(sizeof(int32_t)));
  int64_t stride = (io.width + LATHE_LANES - 1) / LATHE_LANES * LATHE_LANES;
  return roundUp64(tokens * stride * int64_t(sizeof(float)));
}

static MemoryPlan planAll(const Plan &plan, int64_t context, int threads) {
  if (plan.target != "cpu")
    return layOutCuda(plan, context).table;
  MemoryPlan memory;
  memory.context = context;
  std::map<std::string, int64_t> weights;
  for (const PlannedWeight &weight : plan.weights) {
    bool matrix =
        weight.layout == Layout::Tiles || weight.layout == Layout::Rows;
    std::string format = matrix ? std::string(nameOf(weight.desc.format))
                                : std::string("small, f32");
    weights["weights, " + format] += residentBytes(weight, plan.target);
  }
  for (auto &[what, bytes] : weights)
    memory.rows.push_back({what, bytes});
  int64_t kv = 0, states = 0;
  for (const PlannedState &state : plan.states) {
    int64_t bytes = roundUp64(state.byteSize(context));
    (state.kind == StateKind::Kv ? kv : states) += bytes;
    if (state.kind == StateKind::Kv)
      memory.kvBytesPerToken += state.byteSize(1);
  }
  memory.rows.push_back({"kv cache, f32", kv});
  memory.rows.push_back({"recurrent and conv state", states});
  int64_t io = 0;
  for (const PlannedEntry &entry : plan.entries) {
    for (const PlannedIo &input : entry.inputs)
      io += ioBytes(input, entry.tokens);
    for (const PlannedIo &output : entry.outputs)
      io += ioBytes(output, entry.tokens);
  }
  memory.rows.push_back({"inputs and outputs", io});
  if (const PlannedEntry *mtp = plan.find("mtp", 1))
    memory.rows.push_back({"hidden rows for drafts",
                           ioBytes(mtp->inputs[1], plan.maxTokens("trunk") +
                                                       3 * kMaxStepTokens)});
  memory.rows.push_back({"activations", arenaBytes(plan)});
  memory.rows.push_back(
      {"kernel scratch", sharedScratch(plan) + threads * localScratch(plan)});
  for (const MemoryRow &row : memory.rows)
    memory.total += row.bytes;
  return memory;
}

static bool isDraft(const PlannedEntry &entry) {
  return entry.function == "mtp" || entry.function == "draft_head";
}

/// Zeroes the scratch of kernels that no entry of `plan` launches.
static void dropUnusedScratch(Plan &plan) {
  std::vector<bool> used(plan.kernels.size());
  for (const PlannedEntry &entry : plan.entries)
    for (const PlannedLaunch &launch : entry.launches)
      used[size_t(launch.kernel)] = true;
  for (size_t i = 0; i < used.size(); ++i)
    if (!used[i])
      plan.kernels[i].sharedBytes = plan.kernels[i].localBytes =
          plan.kernels[i].bytesPerPosition = 0;
}

/// `plan` with decode steps of one token and nothing to replay.
static Plan withoutPositions(Plan plan) {
  std::erase_if(plan.entries, [](const PlannedEntry &entry) {
    return !entry.prefill && entry.tokens > 1;
  });
  std::erase_if(plan.steps,
                [](const PlannedStep &step) { return step.tokens > 1; });
  const int64_t ring = plan.target == "cpu" ? 0 : LATHE_CONV_RING;
  for (PlannedState &state : plan.states)
    if (state.kind != StateKind::Kv)
      state.ring = state.kind == StateKind::Conv ? ring : 0;
  dropUnusedScratch(plan);
  return plan;
}

/// Bytes of the weights and caches that only drafts use, by `plan`'s entries.
static int64_t draftBytes(const Plan &plan, int64_t context) {
  using Space = PlannedOperand::Space;
  std::vector<bool> weights(plan.weights.size()), states(plan.states.size());
  auto mark = [&](bool drafts, bool value) {
    for (const PlannedEntry &entry : plan.entries)
      for (const PlannedLaunch &launch : entry.launches)
        for (const PlannedOperand &operand : launch.operands) {
          if (isDraft(entry) != drafts)
            continue;
          if (operand.space == Space::Weight)
            weights[size_t(operand.value)] = value;
          if (operand.space == Space::State)
            states[size_t(operand.value)] = value;
        }
  };
  mark(/*drafts=*/true, true);
  mark(/*drafts=*/false, false);
  int64_t bytes = 0;
  for (size_t i = 0; i < weights.size(); ++i)
    bytes += weights[i] ? residentBytes(plan.weights[i], plan.target) : 0;
  for (size_t i = 0; i < states.size(); ++i)
    bytes += states[i] ? plan.states[i].byteSize(context) : 0;
  return bytes;
}

static RoundMemory roundMemory(const Plan &plan, int64_t total, int64_t context,
                               int threads) {
  RoundMemory rounds;
  for (const PlannedEntry &entry : plan.entries)
    if (entry.function == "trunk" && !entry.prefill)
      rounds.drafts = std::max(rounds.drafts, entry.tokens - 1);
  if (rounds.drafts == 0)
    return rounds;
  Plan less = withoutPositions(plan);
  const int64_t drafting = planAll(less, context, threads).total;
  rounds.positions = total - drafting;
  std::erase_if(less.entries, isDraft);
  dropUnusedScratch(less);
  rounds.mtp = drafting - planAll(less, context, threads).total +
               draftBytes(plan, context);
  return rounds;
}

MemoryPlan planMemory(const Plan &plan, int64_t context, int threads) {
  MemoryPlan memory = planAll(plan, context, threads);
  memory.rounds = roundMemory(plan, memory.total, context, threads);
  return memory;
}

std::string MemoryPlan::table() const {
  std::string text;
  char line[128];
  auto add = [&](const char *what, int64_t bytes) {
    std::snprintf(line, sizeof line, "%-26s %16lld B  %10.2f MiB\n", what,
                  static_cast<long long>(bytes), double(bytes) / (1 << 20));
    text += line;
  };
  for (const MemoryRow &row : rows)
    add(row.what.c_str(), row.bytes);
  add("total", total);
  if (rounds.drafts > 0) {
    add("of it, to draft", rounds.mtp);
    add(("of it, " + std::to_string(rounds.drafts) + " draft positions")
            .c_str(),
        rounds.positions);
    add("  each", rounds.positions / rounds.drafts);
  }
  std::snprintf(
      line, sizeof line, "context %lld tokens, %lld B of kv cache per token\n",
      static_cast<long long>(context), static_cast<long long>(kvBytesPerToken));
  return text + line;
}

Status checkFits(const MemoryPlan &memory, int64_t available) {
  if (memory.total <= available)
    return absl::OkStatus();
  std::string message = "needs " + std::to_string(memory.total) +
                        " bytes, but " + std::to_string(available) +
                        " are available\n" + memory.table();
  int64_t fixed = memory.total - memory.kvBytesPerToken * memory.context;
  if (memory.kvBytesPerToken > 0 && fixed < available)
    message += "a context of " +
               std::to_string((available - fixed) / memory.kvBytesPerToken) +
               " tokens would fit: use --ctx";
  else
    message += "no context fits: use a smaller or more quantised model";
  return capacityError(message);
}

} // namespace lathe
