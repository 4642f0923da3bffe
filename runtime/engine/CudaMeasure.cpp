//===- CudaMeasure.cpp - what CudaEngine tells about itself ---------------===//

#include "runtime/base/Float.h"
#include "runtime/engine/CudaEngine.h"

#include <algorithm>
#include <cstring>

namespace lathe {

using cuda::DeviceAddress;

/// The entry of a prompt's kernel that folds in pending tokens.
static constexpr std::string_view kSettleSuffix = "_settle";

/// What a state holds as floats, in the order that Engine::state() promises.
static std::vector<float> decode(const PlannedState &state,
                                 const std::vector<std::byte> &bytes,
                                 int64_t position) {
  std::vector<float> values;
  if (state.elementBytes == 2) {
    values.resize(bytes.size() / 2);
    for (size_t i = 0; i < values.size(); ++i) {
      uint16_t half;
      std::memcpy(&half, bytes.data() + 2 * i, 2);
      values[i] = f16ToFloat(half);
    }
    return values;
  }
  values.resize(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  if (state.ring == 0)
    return values;
  if (state.kind == StateKind::Recurrent) { // without the gates behind it
    values.resize(size_t(state.dims[0] * state.dims[1] * state.dims[2]));
    return values;
  }
  std::vector<float> ordered;
  const int64_t steps = state.dims[0], channels = state.dims[1];
  for (int64_t i = position - steps; i < position; ++i) {
    auto row = values.begin() + (i + state.ring) % state.ring * channels;
    ordered.insert(ordered.end(), row, row + channels);
  }
  return ordered;
}

/// Folds in what is pending.
Status CudaEngine::settleStates() {
  const PlannedEntry *entry = plan.find("trunk", 1, /*preferPrefill=*/true);
  if (pendingTokens == 0 || !entry)
    return absl::OkStatus();
  int count = 0;
  LATHE_RETURN_IF_ERROR(sendStep(*entry, 0, nextPosition));
  LATHE_RETURN_IF_ERROR(
      launchAll(*entry, 0, -1, {.only = kSettleSuffix}, &count));
  pendingTokens = 0;
  devicePosition = -1;
  placed = {};
  return absl::OkStatus();
}

StatusOr<std::vector<float>> CudaEngine::state(std::string_view name) {
  LATHE_RETURN_IF_ERROR(settleStates());
  for (size_t i = 0; i < plan.states.size(); ++i) {
    const PlannedState &state = plan.states[i];
    if (state.name != name)
      continue;
    std::vector<std::byte> bytes(size_t(state.byteSize(contextSize)));
    LATHE_ASSIGN_OR_RETURN(cuda::Stream own, cuda::Stream::create(owner));
    LATHE_RETURN_IF_ERROR(const_cast<cuda::Stream &>(stream).synchronize());
    LATHE_RETURN_IF_ERROR(own.copyToHost(
        bytes.data(), buffer.address() + layout.states[i], bytes.size()));
    LATHE_RETURN_IF_ERROR(own.synchronize());
    return decode(state, bytes, nextPosition);
  }
  return std::vector<float>();
}

StatusOr<CudaEngine::Timing>
CudaEngine::timeGraph(const cuda::GraphExec &graph, int count, int repetitions,
                      const std::function<Status()> &before) {
  LATHE_ASSIGN_OR_RETURN(cuda::Event start, cuda::Event::create(owner, true));
  LATHE_ASSIGN_OR_RETURN(cuda::Event end, cuda::Event::create(owner, true));
  std::vector<double> seconds;
  for (int i = -2; i < repetitions; ++i) { // the first two warm up
    if (before)
      LATHE_RETURN_IF_ERROR(before());
    LATHE_RETURN_IF_ERROR(start.record(stream));
    LATHE_RETURN_IF_ERROR(stream.launch(graph));
    LATHE_RETURN_IF_ERROR(end.record(stream));
    LATHE_RETURN_IF_ERROR(end.synchronize());
    LATHE_ASSIGN_OR_RETURN(float ms, end.elapsedMs(start));
    if (i >= 0)
      seconds.push_back(double(ms) / 1e3);
  }
  std::ranges::sort(seconds);
  return Timing{seconds[seconds.size() / 2], count};
}

StatusOr<CudaEngine::Timing> CudaEngine::time(std::string_view function,
                                              int64_t tokens, int32_t kernel,
                                              const TimeOptions &options) {
  const PlannedEntry *entry = plan.find(function, tokens);
  if (!entry)
    return internalError("the plan has no entry \"" + std::string(function) +
                         "\" for " + std::to_string(tokens) + " tokens");
  LATHE_RETURN_IF_ERROR(sendStep(*entry, tokens, nextPosition));
  devicePosition = -1;
  int count = 0;
  LATHE_ASSIGN_OR_RETURN(cuda::GraphExec graph, stream.capture([&] {
    return launchAll(*entry, tokens, kernel,
                     {.sms = options.sms, .empty = options.empty}, &count);
  }));
  return timeGraph(graph, count, options.repetitions);
}

StatusOr<CudaEngine::Timing> CudaEngine::timeRange(int64_t tokens,
                                                   int64_t begin, int64_t end,
                                                   int repetitions) {
  const PlannedEntry *entries[] = {plan.find("trunk", tokens),
                                   plan.find("head", tokens)};
  if (!entries[0] || !entries[1])
    return internalError("the plan has no step of " + std::to_string(tokens) +
                         " tokens");
  for (const PlannedEntry *entry : entries)
    LATHE_RETURN_IF_ERROR(sendStep(*entry, tokens, nextPosition));
  devicePosition = -1;
  int count = 0;
  LATHE_ASSIGN_OR_RETURN(cuda::GraphExec graph, stream.capture([&]() -> Status {
    int64_t at = 0;
    auto isIn = [&] { return at >= begin && at < end; };
    Bindings bindings;
    for (const PlannedEntry *entry : entries) {
      for (const PlannedLaunch &planned : entry->launches) {
        if (isIn())
          LATHE_RETURN_IF_ERROR(
              launch(*entry, planned, tokens, bindings, &count));
        ++at;
      }
      bindings.inputs[0] =
          reinterpret_cast<DeviceAddress>(outputOf(*entry, tokens).data);
    }
    if (!isIn())
      return absl::OkStatus();
    return queueChoice(bindings.inputs[0], *entries[0], &count);
  }));
  return timeGraph(graph, count, repetitions);
}

StatusOr<std::unique_ptr<SmHold>> CudaEngine::hold(int sms) {
  LATHE_RETURN_IF_ERROR(stream.synchronize());
  nextSlot = 0;
  return SmHold::create(owner, holdKernel, sms);
}

StatusOr<CudaEngine::Timing> CudaEngine::timeStep(int64_t tokens,
                                                  int repetitions) {
  const PlannedEntry *trunk = plan.find("trunk", tokens);
  const PlannedEntry *head = plan.find("head", tokens);
  if (!trunk || !head)
    return internalError("the plan has no step of " + std::to_string(tokens) +
                         " tokens");
  LATHE_RETURN_IF_ERROR(sendStep(*trunk, tokens, nextPosition));
  LATHE_RETURN_IF_ERROR(sendStep(*head, tokens, nextPosition));
  devicePosition = -1;
  int count = 0;
  LATHE_ASSIGN_OR_RETURN(cuda::GraphExec graph, stream.capture([&]() -> Status {
    LATHE_RETURN_IF_ERROR(queueStep(tokens, &count));
    return queueChoice(
        reinterpret_cast<DeviceAddress>(outputOf(*head, tokens).data), *trunk,
        &count);
  }));
  return timeGraph(graph, count, repetitions);
}

/// Queues a reading of the first `bytes` of the weights, or of fewer: whole
/// rounds of the kernel's loop.
Status CudaEngine::readWeights(int64_t bytes, int64_t *read) {
  const unsigned blocks = unsigned(4 * owner.device().sms), threads = 512;
  const int64_t round = int64_t(blocks) * threads * 8;
  long long vectors = std::min(bytes, layout.weightBytes) / 16 / round * round;
  *read = vectors * 16;
  if (vectors == 0)
    return absl::OkStatus();
  DeviceAddress from = buffer.address(), sink = from + layout.sampling;
  void *arguments[] = {&from, &vectors, &sink};
  return stream.launch(readKernel, {.gridX = blocks, .threads = threads},
                       arguments);
}

StatusOr<double> CudaEngine::readBandwidth() {
  int64_t bytes = 0;
  LATHE_ASSIGN_OR_RETURN(cuda::GraphExec graph, stream.capture([&] {
    return readWeights(layout.weightBytes, &bytes);
  }));
  if (bytes == 0)
    return internalError("the weights are too small to measure a bandwidth");
  LATHE_ASSIGN_OR_RETURN(Timing timing, timeGraph(graph, 1, 9));
  return double(bytes) / timing.seconds;
}

} // namespace lathe
