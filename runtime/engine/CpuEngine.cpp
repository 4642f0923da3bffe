#include "runtime/engine/CpuEngine.h"

#include "runtime/engine/MemoryPlan.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>

namespace lathe {

/// An entry of the plan with addresses in place of references.
struct CpuEngine::Bound {
  const PlannedEntry *planned;
  std::vector<uint8_t *> inputs, outputs;
  std::vector<LatheKernel> kernels;      ///< per launch
  std::vector<std::vector<void *>> args; ///< per launch
  std::vector<bool> settles; ///< per launch: whether a state of it can replay
};

using Clock = std::chrono::steady_clock;

CpuEngine::CpuEngine(const Plan &plan, const EngineOptions &options)
    : Engine(plan, options.context, options.prefillChunk), options(options),
      team(options.threads) {}

CpuEngine::~CpuEngine() = default;

StatusOr<std::unique_ptr<CpuEngine>>
CpuEngine::create(const Plan &plan, KernelProvider &kernels,
                  WeightSource &weights, const EngineOptions &options) {
  std::unique_ptr<CpuEngine> engine(new CpuEngine(plan, options));
  LATHE_ASSIGN_OR_RETURN(
      engine->weights,
      WeightStore::load(plan, weights, options.threads, options.progress));
  LATHE_RETURN_IF_ERROR(engine->allocate());
  LATHE_RETURN_IF_ERROR(engine->bind(kernels));
  LATHE_RETURN_IF_ERROR(engine->setSampling({}, 0));
  return engine;
}

Status CpuEngine::allocate() {
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
  touchMemory();
  return absl::OkStatus();
}

/// Has the system back what the first steps use, or they would wait for it. Of
/// the KV caches a step touches little.
void CpuEngine::touchMemory() {
  for (AlignedBuffer *buffer : {&arena, &scratch, &io})
    std::memset(buffer->data(), 0, size_t(buffer->size()));
  for (size_t i = 0; i < stateAt.size(); ++i)
    if (plan.states[i].kind != StateKind::Kv)
      std::memset(stateAt[i], 0, size_t(plan.states[i].byteSize(0)));
}

Status CpuEngine::bind(KernelProvider &kernels) {
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
      bool settles = false;
      for (const PlannedOperand &operand : launch.operands) {
        args.push_back(resolve(operand, *entry));
        settles |=
            operand.space == PlannedOperand::Space::State &&
            plan.states[size_t(operand.value)].kind == StateKind::Recurrent;
      }
      entry->settles.push_back(settles);
    }
    entries.push_back(std::move(entry));
  }
  return absl::OkStatus();
}

void *CpuEngine::resolve(const PlannedOperand &operand,
                         const Bound &entry) const {
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

CpuEngine::Bound *CpuEngine::find(std::string_view function, int64_t tokens) {
  const PlannedEntry *planned = entryFor(function, tokens);
  return planned ? entries[size_t(planned - plan.entries.data())].get()
                 : nullptr;
}

/// With `settle` only the launches whose states can replay.
void CpuEngine::launchAll(Bound &entry, int64_t tokens, int64_t position,
                          bool settle) {
  const int64_t shared = sharedScratch(plan), local = localScratch(plan);
  team.run([&](int thread) {
    LatheContext context{};
    context.thread = thread;
    context.threads = team.size();
    context.tokens = int(tokens);
    context.position = int(position);
    context.capacity = int(options.context);
    context.pending = int(pendingTokens);
    context.shared = scratch.data();
    context.local = scratch.data() + shared + thread * local;
    context.barrier = &kernelBarrier;
    context.yield = [] { std::this_thread::yield(); };
    std::vector<double> *ledger = thread == 0 ? times : nullptr;
    auto start = ledger ? Clock::now() : Clock::time_point();
    for (size_t i = 0; i < entry.kernels.size(); ++i) {
      if (settle && !entry.settles[i])
        continue;
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

StatusOr<RowsView> CpuEngine::run(std::string_view function,
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
      std::memcpy(to + t * activationStride(width), in[i].rows.row(t).data(),
                  size_t(width) * sizeof(float));
  }
  launchAll(*entry, tokens, position);
  int64_t width = entry->planned->outputs[0].width;
  return RowsView{reinterpret_cast<const float *>(entry->outputs[0]), tokens,
                  width, activationStride(width)};
}

/// A step of no tokens folds in what is pending.
void CpuEngine::settleStates() {
  if (pendingTokens > 0)
    launchAll(*find("trunk", 1), 0, nextPosition, /*settle=*/true);
  pendingTokens = 0;
}

Status CpuEngine::setSampling(const SamplerOptions &sampling,
                              int32_t vocabLimit) {
  LATHE_ASSIGN_OR_RETURN(sampler, Sampler::create(sampling));
  sampledVocab = int32_t(
      vocabLimit > 0 ? std::min<int64_t>(vocabLimit, vocabSize) : vocabSize);
  return absl::OkStatus();
}

StatusOr<int32_t> CpuEngine::sample() {
  LATHE_ASSIGN_OR_RETURN(RowsView rows, lastLogits());
  return sampler->sample(rows.row(0), sampledVocab, nextPosition);
}

Status CpuEngine::choose(std::string_view head, RowsView hidden,
                         int64_t position, std::span<int32_t> tokens) {
  Input input;
  input.rows = hidden;
  LATHE_ASSIGN_OR_RETURN(RowsView logits,
                         run(head, {&input, 1}, hidden.rows, nextPosition));
  const bool draft = head == "draft_head";
  const int32_t vocab = draft ? int32_t(logits.width) : sampledVocab;
  for (size_t i = 0; i < tokens.size(); ++i) {
    LATHE_ASSIGN_OR_RETURN(
        tokens[i],
        sampler->sample(logits.row(int64_t(i)), vocab, position + int64_t(i),
                        draft ? draftIds : std::span<const int32_t>()));
  }
  return absl::OkStatus();
}

Status CpuEngine::startMtp() {
  if (!hasMtp())
    return Engine::startMtp();
  keptWidth = plan.find("mtp", 1)->inputs[1].width;
  LATHE_ASSIGN_OR_RETURN(
      kept, AlignedBuffer::allocate(
                ioBytes({keptWidth}, backlogCapacity() + kMaxStepTokens)));
  std::memset(kept.data(), 0, size_t(kept.size())); // or steps fault pages in
  backlog.on = true;
  if (draftVocab() == 0 || !draftIds.empty())
    return absl::OkStatus();
  std::vector<int32_t> ids(static_cast<size_t>(draftVocab()));
  std::iota(ids.begin(), ids.end(), 0);
  return setDraftIds(std::move(ids));
}

Status CpuEngine::keepRows(RowsView rows, int64_t at) {
  for (int64_t i = 0; i < rows.rows; ++i)
    std::memcpy(const_cast<float *>(keptRows(at + i, 1).data),
                rows.row(i).data(), rows.row(i).size_bytes());
  return absl::OkStatus();
}

RowsView CpuEngine::keptRows(int64_t at, int64_t count) {
  const int64_t stride = activationStride(keptWidth);
  return {reinterpret_cast<const float *>(kept.data()) + at * stride, count,
          keptWidth, stride};
}

Status CpuEngine::reset() {
  std::memset(states.data(), 0, size_t(states.size()));
  restart();
  return absl::OkStatus();
}

/// The last inputs of a convolution out of its ring, oldest first.
static std::vector<float> lastInputs(const PlannedState &state,
                                     const float *ring, int64_t position) {
  std::vector<float> values;
  for (int64_t p = position - state.dims[0]; p < position; ++p) {
    const float *row = ring + (p + state.ring) % state.ring * state.dims[1];
    values.insert(values.end(), row, row + state.dims[1]);
  }
  return values;
}

StatusOr<std::vector<float>> CpuEngine::state(std::string_view name) {
  settleStates();
  for (size_t i = 0; i < plan.states.size(); ++i) {
    const PlannedState &state = plan.states[i];
    if (state.name != name)
      continue;
    const float *from = reinterpret_cast<const float *>(stateAt[i]);
    if (state.kind == StateKind::Conv && state.ring > 0)
      return lastInputs(state, from, nextPosition);
    PlannedState matrices = state;
    matrices.ring = 0; // without the gates behind them
    return std::vector<float>(from, from + matrices.byteSize(contextSize) /
                                               int64_t(sizeof(float)));
  }
  return std::vector<float>();
}

} // namespace lathe
