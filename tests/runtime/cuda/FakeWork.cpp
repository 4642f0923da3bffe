// The fake driver's streams, events, modules and graphs.

#include "tests/runtime/cuda/FakeObjects.h"

#include <cstring>

using namespace lathe::cuda::abi;
using namespace lathe::cuda::fake;

extern "C" {

CUresult cuStreamCreate(CUstream *stream, unsigned) {
  if (!current())
    return kInvalidContext;
  *stream = new CUstream_st;
  driver().streams.push_back(*stream);
  ++driver().state.streams;
  return Success;
}
CUresult cuStreamDestroy_v2(CUstream stream) {
  drain(stream);
  std::erase(driver().streams, stream);
  delete stream;
  --driver().state.streams;
  return Success;
}
CUresult cuStreamSynchronize(CUstream stream) {
  if (!current())
    return kInvalidContext;
  if (forbiddenNow())
    return CaptureUnsupported;
  drain(stream);
  return driver().config.waitResult;
}
CUresult cuStreamQuery(CUstream stream) {
  if (!current())
    return kInvalidContext;
  if (forbiddenNow())
    return CaptureUnsupported;
  return stream->queued.empty() ? Success : NotReady;
}
CUresult cuStreamWaitEvent(CUstream stream, CUevent, unsigned) {
  return submit(stream, [] {});
}
CUresult cuStreamBeginCapture_v2(CUstream stream, CaptureMode) {
  if (stream->capturing)
    return CaptureInvalidated;
  stream->capturing = true;
  return Success;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  bool good = stream->capturing && !stream->spoilt;
  *graph = good ? new CUgraph_st(std::move(stream->captured)) : nullptr;
  driver().state.graphs += good;
  stream->capturing = stream->spoilt = false;
  stream->captured = {};
  return good ? Success : CaptureInvalidated;
}

CUresult cuEventCreate(CUevent *event, unsigned flags) {
  if (!current())
    return kInvalidContext;
  *event = new CUevent_st{.timed = (flags & kEventDisableTiming) == 0};
  ++driver().state.events;
  return Success;
}
CUresult cuEventDestroy_v2(CUevent event) {
  delete event;
  --driver().state.events;
  return Success;
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
  event->pending += !stream->capturing;
  return submit(stream, [=] {
    event->recorded = ++driver().clock;
    event->pending -= event->pending > 0;
  });
}
CUresult cuEventQuery(CUevent) {
  return driver().config.eventsReady ? Success : NotReady;
}
CUresult cuEventSynchronize(CUevent event) {
  // No further than to the mark.
  for (CUstream stream : driver().streams)
    for (; event->pending > 0 && !stream->queued.empty();
         stream->queued.pop_front())
      stream->queued.front()();
  return driver().config.waitResult;
}
CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end) {
  if (!start->timed || !end->timed)
    return CUresult(400);
  *milliseconds = static_cast<float>(end->recorded - start->recorded);
  return Success;
}

// An image is an ELF header with the flags 10 * major + minor, then names.
CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  if (!current())
    return kInvalidContext;
  const char *bytes = static_cast<const char *>(image);
  if (bytes[48] != 10 * driver().config.major + driver().config.minor)
    return NoBinaryForGpu;
  *module = new CUmod_st;
  for (const char *name = bytes + 64; *name; name += std::strlen(name) + 1)
    (*module)->functions[name] = new CUfunc_st{.name = name};
  ++driver().state.modules;
  return Success;
}
CUresult cuModuleUnload(CUmodule module) {
  for (auto &[name, function] : module->functions)
    delete function;
  delete module;
  --driver().state.modules;
  return Success;
}
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module,
                             const char *name) {
  auto found = module->functions.find(name);
  if (found == module->functions.end())
    return NotFound;
  *function = found->second;
  return Success;
}
CUresult cuFuncGetAttribute(int *value, FunctionAttribute attribute,
                            CUfunction) {
  *value = attribute == FunctionAttribute::StaticSharedBytes    ? 1024
           : attribute == FunctionAttribute::MaxThreadsPerBlock ? 1024
           : attribute == FunctionAttribute::Registers          ? 40
                                                                : 0;
  return Success;
}
CUresult cuFuncSetAttribute(CUfunction function, FunctionAttribute attribute,
                            int value) {
  if (attribute != FunctionAttribute::MaxDynamicSharedBytes)
    return InvalidValue;
  driver().state.maxDynamicShared = function->maxDynamicShared = value;
  return Success;
}
CUresult cuLaunchKernelEx(const LaunchConfig *config, CUfunction function,
                          void **arguments, void **) {
  auto &[settings, state, context, memory, pinned, streams, clock] = driver();
  if (settings.launchResult != Success)
    return settings.launchResult;
  if (config->dynamicSharedBytes > unsigned(function->maxDynamicShared))
    return InvalidValue;
  state.lastDynamicShared = config->dynamicSharedBytes;
  state.lastProgrammatic =
      config->attributeCount == 1 &&
      config->attributes->id ==
          LaunchAttributeId::ProgrammaticStreamSerialization &&
      config->attributes->value.programmaticStreamSerializationAllowed == 1;
  if (function->name != kAdd) {
    std::function<void()> work;
    if (settings.kernels)
      work = settings.kernels(function->name, *config, arguments);
    return submit(config->stream, [=] {
      if (work)
        work();
      ++driver().state.launches;
    });
  }
  CUdeviceptr address = *static_cast<CUdeviceptr *>(arguments[0]);
  int count = *static_cast<int *>(arguments[1]);
  float value = *static_cast<float *>(arguments[2]);
  return submit(config->stream, [=] {
    for (int i = 0; i < count; ++i)
      static_cast<float *>(pointer(address))[i] += value;
    ++driver().state.launches;
  });
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *, size_t *count) {
  *count = graph->nodes.size();
  return Success;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph,
                                     unsigned long long) {
  *exec = new CUgraphExec_st{*graph};
  ++driver().state.graphExecs;
  return Success;
}
CUresult cuGraphDestroy(CUgraph graph) {
  delete graph;
  --driver().state.graphs;
  return Success;
}
CUresult cuGraphExecDestroy(CUgraphExec exec) {
  drainAll();
  delete exec;
  --driver().state.graphExecs;
  return Success;
}
#ifndef LATHE_FAKE_OLD_DRIVER
CUresult cuGraphUpload(CUgraphExec, CUstream) {
  return current() ? Success : kInvalidContext;
}
#endif
CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  if (driver().config.launchResult != Success)
    return driver().config.launchResult;
  return submit(stream, [=] {
    for (const auto &node : exec->nodes)
      node();
  });
}

} // extern "C"
