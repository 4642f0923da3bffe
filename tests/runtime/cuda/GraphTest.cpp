#include "runtime/cuda/Buffer.h"
#include "runtime/cuda/Module.h"
#include "runtime/cuda/Stream.h"
#include "tests/runtime/cuda/CudaFixture.h"

namespace lathe::cuda {
namespace {

/// A stream, the kernel "add" and four floats.
class GraphTest : public CudaTest {
protected:
  void SetUp() override {
    context = makeContext();
    stream = *Stream::create(*context);
    module = *Module::load(*context, fakeImage(90, {"add"}), "m");
    add = *module.function("add");
    buffer = *DeviceBuffer::allocate(*context, sizeof(float) * 4);
    ASSERT_TRUE(stream.fill(buffer.address(), 0, buffer.size()).ok());
    context->resetCounters();
  }

  Status launchAdd(float value) {
    DeviceAddress address = buffer.address();
    int count = 4;
    void *arguments[] = {&address, &count, &value};
    return stream.launch(add, {.threads = 32, .programmatic = true}, arguments);
  }

  float last() {
    float out[4] = {};
    EXPECT_TRUE(stream.copyToHost(out, buffer.address(), sizeof out).ok());
    return out[3];
  }

  std::unique_ptr<Context> context;
  Stream stream;
  Module module;
  Function add;
  DeviceBuffer buffer;
};

TEST_F(GraphTest, CapturesAndReplays) {
  auto graph = stream.capture([&] {
    LATHE_RETURN_IF_ERROR(launchAdd(1));
    return launchAdd(2);
  });
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(graph->nodes(), 2u);
  EXPECT_EQ(state->graphs, 0) << "the template graph is gone";
  EXPECT_EQ(last(), 0) << "capturing runs nothing";

  EXPECT_TRUE(graph->upload(stream).ok());
  EXPECT_TRUE(stream.launch(*graph).ok());
  EXPECT_TRUE(stream.launch(*graph).ok());
  EXPECT_EQ(last(), 6);
  EXPECT_EQ(state->launches, 4);
  EXPECT_EQ(context->counters().launches, 2u);
  EXPECT_EQ(context->counters().graphLaunches, 2u);
  EXPECT_EQ(context->counters().graphInstantiations, 1u);
}

TEST_F(GraphTest, ReplayNeitherAllocatesNorWaits) {
  auto graph = stream.capture([&] { return launchAdd(1); });
  ASSERT_TRUE(graph.ok());
  context->resetCounters();
  for (int step = 0; step < 10; ++step)
    ASSERT_TRUE(stream.launch(*graph).ok());
  Counters counters = context->counters();
  EXPECT_EQ(counters.graphLaunches, 10u);
  EXPECT_EQ(counters.allocations + counters.frees + counters.synchronizations +
                counters.graphInstantiations + counters.hostToDeviceCopies +
                counters.deviceToHostCopies,
            0u);
}

TEST_F(GraphTest, FailedRecordingLeavesTheStreamUsable) {
  auto graph = stream.capture([&] {
    EXPECT_TRUE(launchAdd(1).ok());
    return usageError("no");
  });
  EXPECT_TRUE(contains(graph.status(), "no"));
  EXPECT_EQ(state->graphs + state->graphExecs, 0);
  EXPECT_TRUE(launchAdd(1).ok());
  EXPECT_EQ(last(), 1);
}

TEST_F(GraphTest, SynchronizingSpoilsTheCapture) {
  auto graph = stream.capture([&] {
    EXPECT_FALSE(stream.synchronize().ok());
    return absl::OkStatus();
  });
  EXPECT_TRUE(contains(graph.status(), "cuStreamEndCapture")) << graph.status();
  auto forwarded = stream.capture([&] { return stream.synchronize(); });
  EXPECT_TRUE(contains(forwarded.status(), "while a graph is being captured"))
      << forwarded.status();
  auto allocating = stream.capture(
      [&] { return DeviceBuffer::allocate(*context, 8).status(); });
  EXPECT_FALSE(allocating.ok());
  EXPECT_TRUE(stream.synchronize().ok());
}

TEST_F(GraphTest, Events) {
  auto start = Event::create(*context, /*timed=*/true);
  auto end = Event::create(*context, /*timed=*/true);
  auto plain = Event::create(*context);
  ASSERT_TRUE(start.ok() && end.ok() && plain.ok());
  EXPECT_TRUE(start->record(stream).ok());
  EXPECT_TRUE(end->record(stream).ok());
  EXPECT_TRUE(stream.wait(*end).ok());
  EXPECT_EQ(*end->elapsedMs(*start), 1.0f);
  EXPECT_FALSE(plain->elapsedMs(*start).ok());
  EXPECT_TRUE(*end->query());
  config->eventsReady = false;
  EXPECT_FALSE(*end->query());
  EXPECT_TRUE(end->synchronize().ok());
  EXPECT_EQ(context->counters().synchronizations, 1u);
}

} // namespace
} // namespace lathe::cuda
