#include "runtime/engine/Engine.h"

#include "runtime/engine/MemoryPlan.h"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace lathe {

/// An entry of the plan with addresses in place of references.
struct Engine::Bound {
  const PlannedEntry *planned;
  std::vector<uint8_t *> inputs, outputs;
  std::vector<LatheKernel> kernels;      ///< per launch
  std::vector<std::vector<void *>> args; ///< per launch
};

using Clock = std::chrono::steady_clock;

static int64_t strideOf(int64_t width) {
  return (width + LATHE_LANES - 1) / LATHE_LANES * LATHE_LANES;
}

Engine::Engine(const Plan &plan, const EngineOptions &options)
    : plan(plan), options(options), team(options.threads) {}

Engine::~Engine() = default;

StatusOr<std::unique_ptr<Engine>> Engine::create(const Plan &plan,
                                                 KernelProvider &kernels,
                                                 WeightSource &weights,
                                                 const EngineOptions &options) {
  std::unique_ptr<Engine> engine(new Engine(plan, options));
  LATHE_ASSIGN_OR_RETURN(
      engine->weights,
      WeightStore::load(plan, weights, options.threads, options.progress));
  LATHE_RETURN_IF_ERROR(engine->allocate());
  LATHE_RETURN_IF_ERROR(engine->bind(kernels));
  if (const PlannedEntry *head = plan.find("head", 1))
    engine->vocabSize = head->outputs[0].width;
  return engine;
}

Status Engine::allocate() {
  int64_t bytes = 0;
  std::vector<int64_t> offsets;
  for (const PlannedState &state : plan.states) {
    offsets.push_back(bytes);
    bytes += (state.byteSize(options.context) + 63) / 64 * 64;
  }
  LATHE_ASSIGN_OR_RETURN(states, AlignedBuffer::allocate(bytes));
  for (int64_t offset : offsets)
    stateAt.push_back(states.data() + offset);
  LATHE_ASSIGN_OR_RETURN(arena, AlignedBuffer::allocate(arenaBytes(plan)));
  LATHE_ASSIGN_OR_RETURN(
      scratch, AlignedBuffer::allocate(sharedScratch(plan) +
                                       team.size() * localScratch(plan)));
  int64_t ioTotal = 0;
  for (const PlannedEntry &entry : plan.entries) {
    for (const PlannedIo &input : entry.inputs)
      ioTotal += ioBytes(input, entry.tokens);
    for (const PlannedIo &output : entry.outputs)
      ioTotal += ioBytes(output, entry.tokens);
  }
  LATHE_ASSIGN_OR_RETURN(io, AlignedBuffer::allocate(ioTotal));
  return absl::OkStatus();
}

Status Engine::bind(KernelProvider &kernels) {
  std::vector<LatheKernel> functions;
  for (const PlannedKernel &kernel : plan.kernels) {
    LATHE_ASSIGN_OR_RETURN(LatheKernel function, kernels.kernel(kernel.name));
    functions.push_back(function);
  }
  uint8_t *nextIo = io.data();
  for (const PlannedEntry &planned : plan.entries) {
    auto entry = std::make_unique<Bound>();
    entry->planned = &planned;
    for (const PlannedIo &input : planned.inputs) {
      entry->inputs.push_back(nextIo);
      nextIo += ioBytes(input, planned.tokens);
    }
    for (const PlannedIo &output : planned.outputs) {
      entry->outputs.push_back(nextIo);
      nextIo += ioBytes(output, planned.tokens);
    }
    for (const PlannedLaunch &launch : planned.launches) {
      entry->kernels.push_back(functions[size_t(launch.kernel)]);
      auto &args = entry->args.emplace_back();
      for (const PlannedOperand &operand : launch.operands)
        args.push_back(resolve(operand, *entry));
    }
    entries.push_back(std::move(entry));
  }
  return absl::OkStatus();
}

void *Engine::resolve(const PlannedOperand &operand, const Bound &entry) const {
  size_t index = size_t(operand.value);
  switch (operand.space) {
  case PlannedOperand::Space::Arena:
    return arena.data() + operand.value;
  case PlannedOperand::Space::Weight:
    return weights.at(index);
  case PlannedOperand::Space::State:
    return stateAt[index];
  case PlannedOperand::Space::Input:
    return entry.inputs[index];
  case PlannedOperand::Space::Output:
    return entry.outputs[index];
  }
  return nullptr;
}

Engine::Bound *Engine::find(std::string_view function, int64_t tokens) {
  const PlannedEntry *planned = plan.find(function, tokens);
  return planned ? entries[size_t(planned - plan.entries.data())].get()
                 : nullptr;
}

void Engine::launchAll(Bound &entry, int64_t tokens, int64_t position) {
  const int64_t shared = sharedScratch(plan), local = localScratch(plan);
  team.run([&](int thread) {
    LatheContext context{};
    context.thread = thread;
    context.threads = team.size();
    context.tokens = int(tokens);
    context.position = int(position);
    context.capacity = int(options.context);
    context.shared = scratch.data();
    context.local = scratch.data() + shared + thread * local;
    context.barrier = &kernelBarrier;
    context.yield = [] { std::this_thread::yield(); };
    std::vector<double> *ledger = thread == 0 ? times : nullptr;
    auto start = ledger ? Clock::now() : Clock::time_point();
    for (size_t i = 0; i < entry.kernels.size(); ++i) {
      entry.kernels[i](entry.args[i].data(), &context);
      if (i + 1 < entry.kernels.size())
        team.barrier();
      if (!ledger)
        continue;
      auto now = Clock::now();
      (*ledger)[size_t(entry.planned->launches[i].kernel)] +=
          std::chrono::duration<double>(now - start).count();
      start = now;
    }
  });
}

StatusOr<RowsView> Engine::run(std::string_view function,
                               std::span<const Input> in, int64_t tokens,
                               int64_t position) {
  Bound *entry = find(function, tokens);
  if (!entry || entry->inputs.size() != in.size())
    return internalError("the plan has no entry \"" + std::string(function) +
                         "\" for " + std::to_string(tokens) + " tokens");
  for (size_t i = 0; i < in.size(); ++i) {
    int64_t width = entry->planned->inputs[i].width;
    if (width == 0) {
      std::memcpy(entry->inputs[i], in[i].tokens.data(),
                  in[i].tokens.size_bytes());
      continue;
    }
    float *to = reinterpret_cast<float *>(entry->inputs[i]);
    for (int64_t t = 0; t < tokens; ++t)
      std::memcpy(to + t * strideOf(width), in[i].rows.row(t).data(),
                  size_t(width) * sizeof(float));
  }
  launchAll(*entry, tokens, position);
  int64_t width = entry->planned->outputs[0].width;
  return RowsView{reinterpret_cast<const float *>(entry->outputs[0]), tokens,
                  width, strideOf(width)};
}

Status Engine::feed(std::span<const int32_t> tokens,
                    const std::function<Status(RowsView)> &allRows) {
  if (int64_t(tokens.size()) > options.context - nextPosition)
    return usageError("the context of " + std::to_string(options.context) +
                      " tokens is full; raise --ctx");
  for (int32_t id : tokens)
    if (id < 0 || id >= vocabSize)
      return usageError("token id " + std::to_string(id) +
                        " is not in the vocabulary of " +
                        std::to_string(vocabSize));
  while (!tokens.empty()) {
    size_t count = std::min(tokens.size(),
                            size_t(std::max<int64_t>(options.prefillChunk, 1)));
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
    LATHE_RETURN_IF_ERROR(sink(out));
    rows.data += count * rows.stride;
    rows.rows -= count;
  }
  return absl::OkStatus();
}

StatusOr<RowsView> Engine::lastLogits() {
  if (lastHidden.rows == 0)
    return usageError("no token was fed yet");
  Input input;
  input.rows = lastHidden;
  input.rows.data += (lastHidden.rows - 1) * lastHidden.stride;
  input.rows.rows = 1;
  return run("head", {&input, 1}, 1, nextPosition);
}

void Engine::reset() {
  std::memset(states.data(), 0, size_t(states.size()));
  nextPosition = 0;
  lastHidden = {};
}

std::span<const float> Engine::state(std::string_view name) const {
  for (size_t i = 0; i < plan.states.size(); ++i)
    if (plan.states[i].name == name)
      return {reinterpret_cast<const float *>(stateAt[i]),
              size_t(plan.states[i].byteSize(options.context)) / sizeof(float)};
  return {};
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
      bytes += residentBytes(plan.weights[i]);
  return bytes;
}

} // namespace lathe
