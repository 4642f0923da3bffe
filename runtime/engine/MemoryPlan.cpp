#include "runtime/engine/MemoryPlan.h"

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

MemoryPlan planMemory(const Plan &plan, int64_t context, int threads) {
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
