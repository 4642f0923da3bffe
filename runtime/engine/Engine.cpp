#include "runtime/engine/Engine.h"

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
  for (const PlannedState &state : plan.states)
    replays |= state.kind == StateKind::Recurrent && state.ring > 0;
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

const PlannedEntry *Engine::entryFor(std::string_view function,
                                     int64_t tokens) const {
  return plan.find(function, tokens, isPrompt && tokens > 1);
}

Status Engine::feed(std::span<const int32_t> tokens,
                    const std::function<Status(RowsView)> &allRows) {
  LATHE_RETURN_IF_ERROR(checkTokens(tokens));
  while (!tokens.empty()) {
    size_t count = std::min(tokens.size(), size_t(prefillChunk));
    LATHE_RETURN_IF_ERROR(feedRun(tokens.first(count)));
    tokens = tokens.subspan(count);
    if (allRows)
      LATHE_RETURN_IF_ERROR(allRows(lastHidden));
  }
  return absl::OkStatus();
}

Status Engine::prompt(std::span<const int32_t> tokens,
                      const std::function<Status(RowsView)> &allRows) {
  isPrompt = true;
  Status status = feed(tokens, allRows);
  isPrompt = false;
  return status;
}

/// One run of the trunk.
Status Engine::feedRun(std::span<const int32_t> tokens) {
  const int64_t count = int64_t(tokens.size());
  LATHE_RETURN_IF_ERROR(beginRun(tokens[0], count));
  Input input;
  input.tokens = tokens;
  const PlannedEntry *entry = entryFor("trunk", count);
  LATHE_ASSIGN_OR_RETURN(lastHidden,
                         run("trunk", {&input, 1}, count, nextPosition));
  return endRun(tokens, !entry->prefill);
}

Status Engine::beginRun(int32_t first, int64_t count) {
  if (!backlog.on)
    return absl::OkStatus();
  LATHE_RETURN_IF_ERROR(settleBacklog());
  return backlog.rows + count > backlogCapacity() ? makeRoom(count, first)
                                                  : absl::OkStatus();
}

/// Takes note of tokens whose hidden rows are there.
Status Engine::endRun(std::span<const int32_t> tokens, bool decode) {
  if (backlog.on) {
    LATHE_RETURN_IF_ERROR(keepRows(lastHidden, backlog.rows));
    backlog.rows += int64_t(tokens.size());
    // The token at `first` was the one behind the last row that is gone.
    const int64_t skip = nextPosition > backlog.first ? 0 : 1;
    backlog.tokens.insert(backlog.tokens.end(), tokens.begin() + skip,
                          tokens.end());
  }
  // A single token is in the states at once.
  const bool pending = replays && decode && tokens.size() > 1;
  pendingTokens = pending ? int64_t(tokens.size()) : 0;
  lastRunStart = nextPosition;
  nextPosition += int64_t(tokens.size());
  return absl::OkStatus();
}

void Engine::restart() {
  nextPosition = pendingTokens = lastRunStart = 0;
  lastHidden = {};
  backlog.first = backlog.rows = backlog.base = 0;
  backlog.tokens.clear();
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

/// The weights, by index, that the functions read with one token; not those of
/// which they take rows.
static std::vector<bool>
weightsOf(const Plan &plan, std::initializer_list<std::string_view> functions) {
  std::vector<bool> used(plan.weights.size());
  for (std::string_view function : functions) {
    const PlannedEntry *entry = plan.find(function, 1);
    if (!entry)
      continue;
    for (const PlannedLaunch &launch : entry->launches)
      for (const PlannedOperand &operand : launch.operands)
        if (operand.space == PlannedOperand::Space::Weight)
          used[size_t(operand.value)] =
              plan.weights[size_t(operand.value)].layout != Layout::Rows;
  }
  return used;
}

int64_t Engine::weightBytesPerStep() const {
  const std::vector<bool> used = weightsOf(plan, {"trunk", "head"});
  int64_t bytes = 0;
  for (size_t i = 0; i < used.size(); ++i)
    if (used[i])
      bytes += residentBytes(plan.weights[i], plan.target);
  return bytes;
}

double Engine::mtpShare() const {
  auto parameters = [&](std::initializer_list<std::string_view> functions) {
    const std::vector<bool> used = weightsOf(plan, functions);
    double sum = 0;
    for (size_t i = 0; i < used.size(); ++i)
      if (used[i])
        sum += double(plan.weights[i].desc.rows) *
               double(plan.weights[i].desc.cols);
    return sum;
  };
  return parameters({"mtp"}) / std::max(parameters({"trunk", "head"}), 1.0);
}

} // namespace lathe
