#include "runtime/engine/Engine.h"

#include "runtime/base/KernelAbi.h"
#include "runtime/memory/WeightStore.h"

#include <algorithm>

namespace lathe {

int64_t activationStride(int64_t width) {
  return (width + LATHE_LANES - 1) / LATHE_LANES * LATHE_LANES;
}

Engine::Engine(const Plan &plan, int64_t context, int64_t prefillChunk)
    : plan(plan), contextSize(context),
      prefillChunk(std::max<int64_t>(prefillChunk, 1)) {
  if (const PlannedEntry *head = plan.find("head", 1))
    vocabSize = head->outputs[0].width;
}

Engine::~Engine() = default;

Status Engine::checkTokens(std::span<const int32_t> tokens) const {
  if (int64_t(tokens.size()) > contextSize - nextPosition)
    return usageError("the context of " + std::to_string(contextSize) +
                      " tokens is full; raise --ctx");
  for (int32_t id : tokens)
    if (id < 0 || id >= vocabSize)
      return usageError("token id " + std::to_string(id) +
                        " is not in the vocabulary of " +
                        std::to_string(vocabSize));
  return absl::OkStatus();
}

Status Engine::feed(std::span<const int32_t> tokens,
                    const std::function<Status(RowsView)> &allRows) {
  LATHE_RETURN_IF_ERROR(checkTokens(tokens));
  while (!tokens.empty()) {
    size_t count = std::min(tokens.size(), size_t(prefillChunk));
    Input input;
    input.tokens = tokens.first(count);
    LATHE_ASSIGN_OR_RETURN(
        lastHidden, run("trunk", {&input, 1}, int64_t(count), nextPosition));
    nextPosition += int64_t(count);
    tokens = tokens.subspan(count);
    if (allRows)
      LATHE_RETURN_IF_ERROR(allRows(lastHidden));
  }
  return absl::OkStatus();
}

Status Engine::logits(RowsView rows,
                      const std::function<Status(RowsView)> &sink) {
  while (rows.rows > 0) {
    Input input;
    input.rows = rows;
    input.rows.rows = std::min(rows.rows, plan.maxTokens("head"));
    const int64_t count = input.rows.rows;
    LATHE_ASSIGN_OR_RETURN(RowsView out,
                           run("head", {&input, 1}, count, nextPosition));
    LATHE_ASSIGN_OR_RETURN(out, toHost(out));
    LATHE_RETURN_IF_ERROR(sink(out));
    rows.data += count * rows.stride;
    rows.rows -= count;
  }
  return absl::OkStatus();
}

StatusOr<Engine::Input> Engine::lastRow() const {
  if (lastHidden.rows == 0)
    return usageError("no token was fed yet");
  Input input;
  input.rows = lastHidden;
  input.rows.data += (lastHidden.rows - 1) * lastHidden.stride;
  input.rows.rows = 1;
  return input;
}

StatusOr<RowsView> Engine::lastLogits() {
  LATHE_ASSIGN_OR_RETURN(Input input, lastRow());
  LATHE_ASSIGN_OR_RETURN(RowsView rows,
                         run("head", {&input, 1}, 1, nextPosition));
  return toHost(rows);
}

StatusOr<int32_t> Engine::step(int32_t token) {
  LATHE_RETURN_IF_ERROR(feed({&token, 1}));
  return sample();
}

int64_t Engine::weightBytesPerStep() const {
  std::vector<bool> used(plan.weights.size());
  for (std::string_view function : {"trunk", "head"}) {
    const PlannedEntry *entry = plan.find(function, 1);
    if (!entry)
      continue;
    for (const PlannedLaunch &launch : entry->launches)
      for (const PlannedOperand &operand : launch.operands)
        if (operand.space == PlannedOperand::Space::Weight)
          used[size_t(operand.value)] = true;
  }
  int64_t bytes = 0;
  for (size_t i = 0; i < used.size(); ++i)
    if (used[i] && plan.weights[i].layout != Layout::Rows)
      bytes += residentBytes(plan.weights[i], plan.target);
  return bytes;
}

} // namespace lathe
