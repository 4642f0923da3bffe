#include "runtime/cuda/Stream.h"

#include "absl/strings/str_cat.h"

namespace lathe::cuda {

StatusOr<Stream> Stream::create(Context &context) {
  LATHE_RETURN_IF_ERROR(context.enter());
  abi::CUstream handle = nullptr;
  LATHE_RETURN_IF_ERROR(context.check(
      context.api().streamCreate(&handle, abi::kStreamNonBlocking),
      "cuStreamCreate"));
  Stream stream;
  stream.stream = Owned<abi::CUstream>(context, handle);
  return stream;
}

Status Stream::copyToDevice(DeviceAddress to, const void *from, size_t bytes) {
  Context &context = stream.owner();
  LATHE_RETURN_IF_ERROR(context.enter());
  LATHE_RETURN_IF_ERROR(context.check(
      context.api().memcpyHtoDAsync(to, from, bytes, stream.get()),
      "cuMemcpyHtoDAsync"));
  ++context.count().hostToDeviceCopies;
  context.count().hostToDeviceBytes += bytes;
  return absl::OkStatus();
}

Status Stream::copyToHost(void *to, DeviceAddress from, size_t bytes) {
  Context &context = stream.owner();
  LATHE_RETURN_IF_ERROR(context.enter());
  LATHE_RETURN_IF_ERROR(context.check(
      context.api().memcpyDtoHAsync(to, from, bytes, stream.get()),
      "cuMemcpyDtoHAsync"));
  ++context.count().deviceToHostCopies;
  context.count().deviceToHostBytes += bytes;
  return absl::OkStatus();
}

Status Stream::copyOnDevice(DeviceAddress to, DeviceAddress from,
                            size_t bytes) {
  Context &context = stream.owner();
  LATHE_RETURN_IF_ERROR(context.enter());
  return context.check(
      context.api().memcpyDtoDAsync(to, from, bytes, stream.get()),
      "cuMemcpyDtoDAsync");
}

Status Stream::fill(DeviceAddress to, uint8_t value, size_t bytes) {
  Context &context = stream.owner();
  LATHE_RETURN_IF_ERROR(context.enter());
  return context.check(
      context.api().memsetD8Async(to, value, bytes, stream.get()),
      "cuMemsetD8Async");
}

Status Stream::launch(const Function &function, const LaunchShape &shape,
                      void **arguments) {
  Context &context = stream.owner();
  LATHE_RETURN_IF_ERROR(context.enter());
  abi::LaunchAttribute attribute{};
  if (shape.cooperative) {
    attribute.id = abi::LaunchAttributeId::Cooperative;
    attribute.value.cooperative = 1;
  } else {
    attribute.id = abi::LaunchAttributeId::ProgrammaticStreamSerialization;
    attribute.value.programmaticStreamSerializationAllowed = 1;
  }
  abi::LaunchConfig config{};
  config.gridX = shape.gridX;
  config.gridY = shape.gridY;
  config.gridZ = 1;
  config.blockX = shape.threads;
  config.blockY = 1;
  config.blockZ = 1;
  config.dynamicSharedBytes = shape.dynamicShared;
  config.stream = stream.get();
  config.attributes = &attribute;
  config.attributeCount = shape.programmatic || shape.cooperative ? 1 : 0;
  // The message is made only when there is an error: this is the hot path.
  auto result = context.api().launchKernelEx(&config, function.handle,
                                             arguments, nullptr);
  if (result != abi::Success)
    return context.check(result, "cuLaunchKernelEx",
                         absl::StrCat(function.name, ", grid ", shape.gridX,
                                      " x ", shape.gridY, ", ", shape.threads,
                                      " threads, ", shape.dynamicShared,
                                      " bytes of dynamic shared memory"));
  ++context.count().launches;
  return absl::OkStatus();
}

Status Stream::launch(const GraphExec &graph) {
  Context &context = stream.owner();
  LATHE_RETURN_IF_ERROR(context.enter());
  LATHE_RETURN_IF_ERROR(
      context.check(context.api().graphLaunch(graph.exec.get(), stream.get()),
                    "cuGraphLaunch"));
  ++context.count().graphLaunches;
  return absl::OkStatus();
}

Status Stream::wait(const Event &event) {
  Context &context = stream.owner();
  LATHE_RETURN_IF_ERROR(context.enter());
  return context.check(
      context.api().streamWaitEvent(stream.get(), event.event.get(), 0),
      "cuStreamWaitEvent");
}

Status Stream::synchronize() {
  Context &context = stream.owner();
  LATHE_RETURN_IF_ERROR(context.enter());
  ++context.count().synchronizations;
  return context.check(context.api().streamSynchronize(stream.get()),
                       "cuStreamSynchronize");
}

StatusOr<bool> Stream::idle() {
  Context &context = stream.owner();
  LATHE_RETURN_IF_ERROR(context.enter());
  auto result = context.api().streamQuery(stream.get());
  if (result == abi::NotReady)
    return false;
  LATHE_RETURN_IF_ERROR(context.check(result, "cuStreamQuery"));
  return true;
}

StatusOr<GraphExec> Stream::capture(const std::function<Status()> &record) {
  Context &context = stream.owner();
  const DriverApi &api = context.api();
  LATHE_RETURN_IF_ERROR(context.enter());
  // Thread-local: other threads may allocate meanwhile.
  LATHE_RETURN_IF_ERROR(context.check(
      api.streamBeginCapture(stream.get(), abi::CaptureMode::ThreadLocal),
      "cuStreamBeginCapture"));
  Status recorded = record();
  // Ends in any case, or the stream would stay unusable.
  LATHE_RETURN_IF_ERROR(context.enter());
  abi::CUgraph graph = nullptr;
  Status ended = context.check(api.streamEndCapture(stream.get(), &graph),
                               "cuStreamEndCapture");
  GraphExec result;
  Status made = recorded.ok() ? ended : recorded;
  if (made.ok()) {
    abi::CUgraphExec exec = nullptr;
    made = context.check(api.graphInstantiate(&exec, graph, 0),
                         "cuGraphInstantiate");
    if (made.ok()) {
      result.exec = Owned<abi::CUgraphExec>(context, exec);
      made = context.check(api.graphGetNodes(graph, nullptr, &result.nodeCount),
                           "cuGraphGetNodes");
      ++context.count().graphInstantiations;
    }
  }
  if (graph)
    api.graphDestroy(graph);
  LATHE_RETURN_IF_ERROR(made);
  return result;
}

Status GraphExec::upload(Stream &stream) const {
  Context &context = exec.owner();
  LATHE_RETURN_IF_ERROR(context.enter());
  return context.check(context.api().graphUpload(exec.get(), stream.handle()),
                       "cuGraphUpload");
}

StatusOr<Event> Event::create(Context &context, bool timed) {
  LATHE_RETURN_IF_ERROR(context.enter());
  abi::CUevent handle = nullptr;
  LATHE_RETURN_IF_ERROR(context.check(
      context.api().eventCreate(&handle, timed ? abi::kEventDefault
                                               : abi::kEventDisableTiming),
      "cuEventCreate"));
  Event event;
  event.event = Owned<abi::CUevent>(context, handle);
  return event;
}

Status Event::record(Stream &stream) {
  Context &context = event.owner();
  LATHE_RETURN_IF_ERROR(context.enter());
  return context.check(context.api().eventRecord(event.get(), stream.handle()),
                       "cuEventRecord");
}

StatusOr<bool> Event::query() const {
  Context &context = event.owner();
  LATHE_RETURN_IF_ERROR(context.enter());
  auto result = context.api().eventQuery(event.get());
  if (result == abi::NotReady)
    return false;
  LATHE_RETURN_IF_ERROR(context.check(result, "cuEventQuery"));
  return true;
}

Status Event::synchronize() const {
  Context &context = event.owner();
  LATHE_RETURN_IF_ERROR(context.enter());
  ++context.count().synchronizations;
  return context.check(context.api().eventSynchronize(event.get()),
                       "cuEventSynchronize");
}

StatusOr<float> Event::elapsedMs(const Event &start) const {
  Context &context = event.owner();
  LATHE_RETURN_IF_ERROR(context.enter());
  float milliseconds = 0;
  LATHE_RETURN_IF_ERROR(
      context.check(context.api().eventElapsedTime(
                        &milliseconds, start.event.get(), event.get()),
                    "cuEventElapsedTime"));
  return milliseconds;
}

} // namespace lathe::cuda
