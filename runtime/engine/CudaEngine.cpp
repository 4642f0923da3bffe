#include "runtime/engine/CudaEngine.h"

#include "runtime/base/CudaRound.h"
#include "runtime/base/CudaSampling.h"
#include "runtime/base/CudaTarget.h"
#include "runtime/engine/CudaLoader.h"
#include "runtime/engine/MemoryPlan.h"

#include <algorithm>
#include <cstring>

namespace lathe {

using cuda::DeviceAddress;

namespace {

/// Host values on their way to the GPU wait in a ring of slots.
constexpr size_t kSlotBytes = 16 << 10;
constexpr int64_t kSlots = 64;

template <class T> T *pointer(DeviceAddress address) {
  return reinterpret_cast<T *>(address);
}

} // namespace

CudaEngine::CudaEngine(cuda::Context &context, const Plan &plan,
                       const CudaEngineOptions &options)
    : Engine(plan, options.context, options.prefillChunk), owner(context),
      options(options), layout(layOutCuda(plan, options.context)) {}

CudaEngine::~CudaEngine() = default;

StatusOr<std::unique_ptr<CudaEngine>>
CudaEngine::create(cuda::Context &context, const Plan &plan,
                   const CudaImages &images, WeightSource *weights,
                   const CudaEngineOptions &options) {
  std::unique_ptr<CudaEngine> engine(new CudaEngine(context, plan, options));
  LATHE_ASSIGN_OR_RETURN(engine->stream, cuda::Stream::create(context));
  LATHE_RETURN_IF_ERROR(engine->loadModules(images));
  LATHE_RETURN_IF_ERROR(engine->allocate());
  LATHE_RETURN_IF_ERROR(engine->loadWeights(weights));
  LATHE_RETURN_IF_ERROR(engine->setSampling({}, 0));
  LATHE_RETURN_IF_ERROR(engine->reset());
  LATHE_RETURN_IF_ERROR(engine->prepareSteps());
  LATHE_RETURN_IF_ERROR(engine->captureStep());
  return engine;
}

/// With a profile, as many blocks share a multiprocessor as there.
StatusOr<int> CudaEngine::sharedOf(const PlannedStage &stage) const {
  if (plan.profile.arch.empty())
    return stage.dynamicShared;
  LATHE_ASSIGN_OR_RETURN(CudaTarget limits, parseCudaTarget(plan.profile.arch));
  CudaTarget device;
  device.sharedPerSm = owner.device().sharedPerSm;
  device.sharedPerBlock = owner.device().sharedPerBlock;
  return sharedForShare(limits, device, stage.threads, stage.dynamicShared);
}

Status CudaEngine::loadModules(const CudaImages &images) {
  auto load = [&](const std::string &name) -> StatusOr<cuda::Module> {
    auto image = images.find(name);
    if (image == images.end())
      return internalError("no image for kernel " + name);
    return cuda::Module::load(owner, image->second, name);
  };
  LATHE_ASSIGN_OR_RETURN(runtime, load("runtime"));
  struct Entry {
    const char *name;
    cuda::Function *function;
    int shared;
  };
  constexpr int kAll = -1; // that a block can have
  std::vector<Entry> entries = {
      {"advance", &advance, 0},
      {"deliver", &deliver, 0},
      {"read", &readKernel, 0},
      {"nothing", &nothingKernel, kAll},
      {"hold", &holdKernel, kAll},
      {"sample_highest", &sampleHighest, kSampleSharedBytes},
      {"sample_weigh", &sampleWeigh, kSampleSharedBytes},
      {"sample_choose", &sampleChoose, kSampleSharedBytes}};
  if (hasMtp())
    entries.insert(entries.end(), {{"round_row", &roundRow, 0},
                                   {"round_accept", &roundAccept, 0}});
  for (const auto &[name, function, shared] : entries) {
    LATHE_ASSIGN_OR_RETURN(*function,
                           runtime.function(name, std::max(shared, 0)));
    if (shared == kAll) {
      const int all = owner.device().sharedPerBlock - function->staticShared;
      LATHE_ASSIGN_OR_RETURN(*function, runtime.function(name, all));
    }
  }
  for (const PlannedKernel &planned : plan.kernels) {
    LATHE_ASSIGN_OR_RETURN(cuda::Module module, load(planned.name));
    Kernel kernel;
    for (const PlannedStage &stage : planned.stages) {
      LATHE_ASSIGN_OR_RETURN(const int shared, sharedOf(stage));
      LATHE_ASSIGN_OR_RETURN(cuda::Function function,
                             module.function(stage.entry, shared));
      kernel.stages.push_back({function, &stage, shared});
    }
    kernels.push_back(std::move(kernel));
    modules.push_back(std::move(module));
  }
  return absl::OkStatus();
}

Status CudaEngine::allocate() {
  LATHE_ASSIGN_OR_RETURN(cuda::MemoryInfo before, owner.memory());
  LATHE_RETURN_IF_ERROR(checkFits(layout.table, before.freeBytes));
  LATHE_ASSIGN_OR_RETURN(
      buffer, cuda::DeviceBuffer::allocate(owner, size_t(layout.total)));
  LATHE_ASSIGN_OR_RETURN(cuda::MemoryInfo after, owner.memory());
  driverUsed = before.freeBytes - after.freeBytes;
  LATHE_ASSIGN_OR_RETURN(
      slots, cuda::PinnedBuffer::allocate(owner, kSlots * kSlotBytes));
  int64_t logits = 0;
  for (const PlannedEntry &entry : plan.entries)
    if (entry.function == "head")
      logits = std::max(logits, ioBytes(entry.outputs[0], entry.tokens));
  LATHE_ASSIGN_OR_RETURN(readBack,
                         cuda::PinnedBuffer::allocate(owner, size_t(logits)));
  LATHE_ASSIGN_OR_RETURN(
      choice, cuda::PinnedBuffer::allocate(owner, size_t(kChoiceBytes)));
  LATHE_ASSIGN_OR_RETURN(
      roundBack, cuda::PinnedBuffer::allocate(owner, sizeof(LatheRound)));
  LATHE_ASSIGN_OR_RETURN(tokenReady, cuda::Event::create(owner));
  return stream.fill(buffer.address() + layout.counters, 0,
                     LATHE_COUNTERS * sizeof(unsigned));
}

Status CudaEngine::loadWeights(WeightSource *weights) {
  LATHE_ASSIGN_OR_RETURN(
      CudaLoader loader,
      CudaLoader::create(stream, runtime, layout, buffer.address()));
  return options.synthetic ? loader.fill(plan)
                           : loader.load(plan, *weights, options.loadThreads,
                                         options.progress);
}

size_t CudaEngine::indexOf(const PlannedEntry &entry) const {
  return size_t(&entry - plan.entries.data());
}

DeviceAddress CudaEngine::stepAddress(const PlannedEntry &entry) const {
  return buffer.address() + layout.steps + 256 * indexOf(entry);
}

DeviceAddress CudaEngine::resolve(const PlannedOperand &operand,
                                  const PlannedEntry &entry,
                                  const Bindings &bindings) const {
  const size_t index = size_t(operand.value);
  const CudaMemory::Io &io = layout.io.at(entry.function);
  switch (operand.space) {
  case PlannedOperand::Space::Arena:
    return buffer.address() + layout.arena + operand.value;
  case PlannedOperand::Space::Weight:
    return buffer.address() + layout.weights[index];
  case PlannedOperand::Space::State:
    return buffer.address() + layout.states[index];
  case PlannedOperand::Space::Input:
    return index < std::size(bindings.inputs) && bindings.inputs[index]
               ? bindings.inputs[index]
               : buffer.address() + io.inputs[index];
  case PlannedOperand::Space::Output:
    return buffer.address() + io.outputs[index];
  }
  return 0;
}

LatheLaunch CudaEngine::launchContext(DeviceAddress step) const {
  return {pointer<const LatheStep>(step),
          pointer<char>(buffer.address() + layout.scratch),
          pointer<unsigned>(buffer.address() + layout.counters),
          int(contextSize)};
}

DeviceAddress CudaEngine::trunkInput() const {
  return buffer.address() + layout.io.at("trunk").inputs[0];
}

Status CudaEngine::launch(const PlannedEntry &entry,
                          const PlannedLaunch &launch, int64_t tokens,
                          const Bindings &bindings, int *count) {
  LatheLaunch ctx =
      launchContext(bindings.step ? bindings.step : stepAddress(entry));
  DeviceAddress operands[32];
  void *arguments[33] = {&ctx};
  if (launch.operands.size() > std::size(operands))
    return internalError("a kernel has more than 32 operands");
  for (size_t i = 0; i < launch.operands.size(); ++i) {
    operands[i] = resolve(launch.operands[i], entry, bindings);
    arguments[i + 1] = &operands[i];
  }
  for (const Stage &stage : kernels[size_t(launch.kernel)].stages) {
    const PlannedStage &planned = *stage.planned;
    if (!planned.entry.ends_with(bindings.only))
      continue;
    cuda::LaunchShape shape;
    shape.gridX = unsigned(planned.blocks);
    if (bindings.sms > 0 && planned.grain > 0)
      shape.gridX = unsigned(std::clamp(bindings.sms / planned.grain, 1,
                                        planned.blocks / planned.grain) *
                             planned.grain);
    if (planned.tokensPerBlock > 0)
      shape.gridY = unsigned((tokens + planned.tokensPerBlock - 1) /
                             planned.tokensPerBlock);
    shape.threads = unsigned(planned.threads);
    shape.dynamicShared = unsigned(stage.dynamicShared);
    // The first launch follows a copy, which it cannot overlap.
    shape.programmatic = options.programmatic && *count > 0;
    LATHE_RETURN_IF_ERROR(
        bindings.empty ? stream.launch(nothingKernel, shape, nullptr)
                       : stream.launch(stage.function, shape, arguments));
    ++*count;
  }
  return absl::OkStatus();
}

Status CudaEngine::launchAll(const PlannedEntry &entry, int64_t tokens,
                             int32_t kernel, const Bindings &bindings,
                             int *count) {
  for (const PlannedLaunch &planned : entry.launches)
    if (kernel < 0 || planned.kernel == kernel)
      LATHE_RETURN_IF_ERROR(launch(entry, planned, tokens, bindings, count));
  return absl::OkStatus();
}

/// Copies `bytes` of host memory that may change right after. A slot is written
/// again only after a wait for the stream, its own when no other came first.
Status CudaEngine::send(DeviceAddress to, const void *from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += kSlotBytes) {
    const size_t count = std::min(bytes - at, kSlotBytes);
    if (nextSlot == kSlots) {
      LATHE_RETURN_IF_ERROR(stream.synchronize());
      nextSlot = 0;
    }
    std::byte *slot = slots.data() + kSlotBytes * size_t(nextSlot++);
    std::memcpy(slot, static_cast<const std::byte *>(from) + at, count);
    LATHE_RETURN_IF_ERROR(stream.copyToDevice(to + at, slot, count));
  }
  return absl::OkStatus();
}

Status CudaEngine::sendStep(const PlannedEntry &entry, int64_t tokens,
                            int64_t position) {
  const bool trunk = entry.function == "trunk";
  LatheStep step{int(position), int(tokens), trunk ? int(pendingTokens) : 0};
  return send(stepAddress(entry), &step, sizeof step);
}

/// Decode entries are played as graphs, captured at first use.
Status CudaEngine::play(const PlannedEntry &entry, int64_t tokens) {
  int count = 0;
  if (entry.prefill)
    return launchAll(entry, tokens, -1, {}, &count);
  cuda::GraphExec &graph = graphs[indexOf(entry)];
  if (!graph) {
    LATHE_ASSIGN_OR_RETURN(graph, stream.capture([&] {
      return launchAll(entry, tokens, -1, {}, &count);
    }));
  }
  return stream.launch(graph);
}

RowsView CudaEngine::outputOf(const PlannedEntry &entry, int64_t tokens) const {
  const int64_t width = entry.outputs[0].width;
  return {pointer<const float>(buffer.address() +
                               layout.io.at(entry.function).outputs[0]),
          tokens, width, activationStride(width)};
}

StatusOr<RowsView> CudaEngine::run(std::string_view function,
                                   std::span<const Input> in, int64_t tokens,
                                   int64_t position) {
  const PlannedEntry *entry = entryFor(function, tokens);
  if (!entry || entry->inputs.size() != in.size())
    return internalError("the plan has no entry \"" + std::string(function) +
                         "\" for " + std::to_string(tokens) + " tokens");
  const CudaMemory::Io &io = layout.io.at(entry->function);
  for (size_t i = 0; i < in.size(); ++i) {
    const DeviceAddress to = buffer.address() + io.inputs[i];
    const int64_t width = entry->inputs[i].width;
    if (width == 0) {
      LATHE_RETURN_IF_ERROR(
          send(to, in[i].tokens.data(), in[i].tokens.size_bytes()));
      continue;
    }
    // Rows of one stride: engine memory has no other.
    LATHE_RETURN_IF_ERROR(stream.copyOnDevice(
        to, reinterpret_cast<DeviceAddress>(in[i].rows.data),
        size_t(tokens * activationStride(width)) * sizeof(float)));
  }
  if (function == "trunk") {
    devicePosition = deviceToken = -1;
    placed = {};
  }
  LATHE_RETURN_IF_ERROR(sendStep(*entry, tokens, position));
  LATHE_RETURN_IF_ERROR(play(*entry, tokens));
  return outputOf(*entry, tokens);
}

StatusOr<RowsView> CudaEngine::toHost(RowsView rows) {
  const size_t bytes = size_t(rows.rows * rows.stride) * sizeof(float);
  LATHE_RETURN_IF_ERROR(stream.copyToHost(
      readBack.data(), reinterpret_cast<DeviceAddress>(rows.data), bytes));
  LATHE_RETURN_IF_ERROR(stream.synchronize());
  nextSlot = 0;
  rows.data = reinterpret_cast<const float *>(readBack.data());
  return rows;
}

/// Trunk, head on the trunk's own output, the choice of the next token as the
/// trunk's next input, and the position moved on.
Status CudaEngine::captureStep() {
  const PlannedEntry *trunk = plan.find("trunk", 1);
  const PlannedEntry *head = plan.find("head", 1);
  if (!trunk || !head || trunk->prefill || head->prefill)
    return absl::OkStatus();
  LATHE_ASSIGN_OR_RETURN(stepGraph, stream.capture([&]() -> Status {
    int count = 0;
    LATHE_RETURN_IF_ERROR(queueStep(1, &count));
    const DeviceAddress logits =
        reinterpret_cast<DeviceAddress>(outputOf(*head, 1).data);
    DeviceAddress choices = buffer.address() + layout.sampling + kChoiceAt;
    LATHE_RETURN_IF_ERROR(queueChoosing({logits, 1, stepAddress(*trunk), false,
                                         choices, choices + kChoiceBytes / 2},
                                        &count));
    DeviceAddress step = stepAddress(*trunk), input = trunkInput();
    DeviceAddress host = choice.address();
    int words = int(kChoiceBytes / sizeof(int));
    void *arguments[] = {&step, &input, &choices, &host, &words};
    return stream.launch(advance,
                         {.threads = 32, .programmatic = options.programmatic},
                         arguments);
  }));
  return stepGraph.upload(stream);
}

StatusOr<int32_t> CudaEngine::step(int32_t token) {
  if (!stepGraph)
    return Engine::step(token);
  LATHE_RETURN_IF_ERROR(checkTokens({&token, 1}));
  LATHE_RETURN_IF_ERROR(beginRun(token, 1));
  const PlannedEntry &trunk = *plan.find("trunk", 1);
  if (deviceToken != token)
    LATHE_RETURN_IF_ERROR(send(trunkInput(), &token, sizeof token));
  if (devicePosition != nextPosition)
    LATHE_RETURN_IF_ERROR(sendStep(trunk, 1, nextPosition));
  LATHE_RETURN_IF_ERROR(stream.launch(stepGraph));
  placed = {};
  lastHidden = outputOf(trunk, 1);
  LATHE_RETURN_IF_ERROR(endRun({&token, 1}, /*decode=*/true));
  devicePosition = nextPosition;
  deviceToken = -1; // the graph overwrote it, whether or not a token comes
  LATHE_ASSIGN_OR_RETURN(deviceToken, takeChoice());
  return deviceToken;
}

Status CudaEngine::reset() {
  restart();
  devicePosition = deviceToken = -1;
  placed = {};
  rowsAreInTrunk = false;
  if (layout.stateBytes == 0)
    return absl::OkStatus();
  // States stand behind the weights.
  return stream.fill(buffer.address() + layout.weightBytes, 0,
                     size_t(layout.stateBytes));
}

void CudaEngine::skipTo(int64_t position) {
  restart();
  nextPosition = lastRunStart = backlog.first = position;
  devicePosition = -1;
  placed = {};
  rowsAreInTrunk = false;
}

} // namespace lathe
