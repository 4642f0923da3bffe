#include "runtime/cuda/Buffer.h"
#include "runtime/cuda/Module.h"
#include "runtime/cuda/Stream.h"
#include "tests/runtime/cuda/CudaFixture.h"

#include <cstring>
#include <thread>
#include <vector>

namespace lathe::cuda {
namespace {

TEST_F(CudaTest, BuffersAreFreed) {
  auto context = makeContext();
  {
    auto buffer = DeviceBuffer::allocate(*context, 1000);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    auto pinned = PinnedBuffer::allocate(*context, 10);
    ASSERT_TRUE(pinned.ok()) << pinned.status();
    EXPECT_NE(buffer->address(), 0u);
    EXPECT_EQ(pinned->address(),
              reinterpret_cast<DeviceAddress>(pinned->data()));
    EXPECT_EQ(context->memory()->freeBytes, (int64_t(1) << 30) - 1000);

    DeviceBuffer moved = *std::move(buffer);
    EXPECT_EQ(buffer->address(), 0u);
    moved = DeviceBuffer();
    EXPECT_EQ(state->buffers, 0);
    EXPECT_EQ(state->pinned, 1);
  }
  EXPECT_EQ(context->counters().allocations, 2u);
  EXPECT_EQ(context->counters().frees, 2u);
}

TEST_F(CudaTest, EmptyBuffersAskForNothing) {
  auto context = makeContext();
  EXPECT_EQ(DeviceBuffer::allocate(*context, 0)->address(), 0u);
  EXPECT_EQ(PinnedBuffer::allocate(*context, 0)->data(), nullptr);
  EXPECT_EQ(context->counters().allocations, 0u);
}

TEST_F(CudaTest, OutOfMemorySaysHowMuchIsFree) {
  config->totalBytes = 10 << 20;
  auto context = makeContext();
  auto first = DeviceBuffer::allocate(*context, 4 << 20);
  ASSERT_TRUE(first.ok());
  Status status = DeviceBuffer::allocate(*context, 7 << 20).status();
  EXPECT_EQ(exitCode(status), 4);
  EXPECT_TRUE(contains(status, "cuMemAlloc (7 MiB on cuda:0, 6 MiB free of 10 "
                               "MiB) failed: CUDA_ERROR_OUT_OF_MEMORY (out of "
                               "memory): close other programs"))
      << status;
}

TEST_F(CudaTest, NthAllocationFails) {
  auto context = makeContext();
  config->failAllocation = 2;
  auto buffer = DeviceBuffer::allocate(*context, 8);
  EXPECT_TRUE(buffer.ok());
  Status status = PinnedBuffer::allocate(*context, 8).status();
  EXPECT_EQ(exitCode(status), 4);
  EXPECT_TRUE(contains(status, "cannot lock")) << status;
  EXPECT_EQ(context->counters().allocations, 1u);
}

TEST_F(CudaTest, CopiesAndFills) {
  auto context = makeContext();
  auto stream = Stream::create(*context);
  auto a = DeviceBuffer::allocate(*context, 8);
  auto b = DeviceBuffer::allocate(*context, 8);
  ASSERT_TRUE(stream.ok() && a.ok() && b.ok());
  char out[8] = {};
  EXPECT_TRUE(stream->fill(a->address(), 'x', 8).ok());
  EXPECT_TRUE(stream->copyToDevice(a->address() + 2, "abc", 3).ok());
  EXPECT_TRUE(stream->copyOnDevice(b->address(), a->address(), 8).ok());
  EXPECT_TRUE(stream->copyToHost(out, b->address(), 8).ok());
  EXPECT_TRUE(stream->synchronize().ok());
  EXPECT_EQ(std::string_view(out, 8), "xxabcxxx");
  EXPECT_TRUE(*stream->idle());

  Counters counters = context->counters();
  EXPECT_EQ(counters.hostToDeviceBytes, 3u);
  EXPECT_EQ(counters.deviceToHostBytes, 8u);
  EXPECT_EQ(counters.hostToDeviceCopies, 1u);
  EXPECT_EQ(counters.deviceToHostCopies, 1u);
  EXPECT_EQ(counters.synchronizations, 1u);
  context->resetCounters();
  EXPECT_EQ(context->counters().deviceToHostBytes, 0u);

  Status beyond = stream->copyToHost(out, b->address() + 4, 8);
  EXPECT_EQ(exitCode(beyond), 1);
  EXPECT_TRUE(contains(beyond, "cuMemcpyDtoHAsync failed")) << beyond;
}

TEST_F(CudaTest, OtherThreadsMayCall) {
  auto context = makeContext();
  auto stream = Stream::create(*context);
  ASSERT_TRUE(stream.ok());
  DeviceBuffer buffer;
  std::thread([&] {
    auto made = DeviceBuffer::allocate(*context, 4);
    ASSERT_TRUE(made.ok()) << made.status();
    buffer = *std::move(made);
    EXPECT_TRUE(stream->fill(buffer.address(), 0, 4).ok());
  }).join();
  std::thread([&] { buffer = DeviceBuffer(); }).join();
  EXPECT_EQ(state->buffers, 0);
}

TEST_F(CudaTest, ImageForOtherGpuIsModelError) {
  auto context = makeContext();
  Status status =
      Module::load(*context, fakeImage(120, {"add"}), "mix.cubin").status();
  EXPECT_EQ(exitCode(status), 3);
  EXPECT_TRUE(contains(status, "mix.cubin on Fake GPU 0, compute capability "
                               "9.0, driver for CUDA 13.0"))
      << status;
  EXPECT_TRUE(contains(status, "CUDA_ERROR_NO_BINARY_FOR_GPU")) << status;
}

TEST_F(CudaTest, DamagedImagesNeverReachTheDriver) {
  auto context = makeContext();
  std::string truncated = fakeImage(90, {"add"});
  truncated[0x29] = 1; // the section table would start at byte 256
  truncated[0x3a] = 64;
  truncated[0x3c] = 1;
  std::string otherMachine = fakeImage(90, {"add"});
  otherMachine[0x12] = 62;
  for (const std::string &image : {std::string(),
                                   std::string("\x7f"
                                               "ELF"),
                                   truncated, otherMachine}) {
    Status status = Module::load(*context, image, "bad").status();
    EXPECT_EQ(exitCode(status), 3);
    EXPECT_TRUE(contains(status, "bad is no complete cubin")) << status;
  }
}

TEST_F(CudaTest, FunctionsAndLaunches) {
  auto context = makeContext();
  auto stream = Stream::create(*context);
  auto module = Module::load(*context, fakeImage(90, {"add", "idle"}), "m");
  auto buffer = DeviceBuffer::allocate(*context, 4 * sizeof(float));
  ASSERT_TRUE(stream.ok() && module.ok() && buffer.ok());
  EXPECT_EQ(exitCode(module->function("none").status()), 3);
  EXPECT_EQ(exitCode(module->function("add", 227 << 10).status()), 3);
  auto add = module->function("add", 100 << 10);
  ASSERT_TRUE(add.ok()) << add.status();
  EXPECT_EQ(add->registers, 40);
  EXPECT_EQ(add->staticShared, 1024);
  EXPECT_EQ(state->maxDynamicShared, 100 << 10);

  DeviceAddress address = buffer->address();
  int count = 4;
  float value = 1.5f;
  void *arguments[] = {&address, &count, &value};
  float out[4];
  EXPECT_TRUE(stream->fill(address, 0, sizeof out).ok());
  LaunchShape shape{.gridX = 2, .threads = 64, .dynamicShared = 100 << 10};
  EXPECT_TRUE(stream->launch(*add, shape, arguments).ok());
  EXPECT_FALSE(state->lastProgrammatic);
  EXPECT_EQ(state->lastDynamicShared, unsigned(100 << 10));
  shape.programmatic = true;
  EXPECT_TRUE(stream->launch(*add, shape, arguments).ok());
  EXPECT_TRUE(state->lastProgrammatic);
  EXPECT_TRUE(stream->copyToHost(out, address, sizeof out).ok());
  EXPECT_EQ(out[3], 3.0f);
  EXPECT_EQ(context->counters().launches, 2u);

  config->launchResult = abi::LaunchOutOfResources;
  Status failed = stream->launch(*add, shape, arguments);
  EXPECT_EQ(exitCode(failed), 1);
  EXPECT_TRUE(contains(failed, "add, grid 2 x 1, 64 threads")) << failed;
  EXPECT_EQ(context->counters().launches, 2u);
}

} // namespace
} // namespace lathe::cuda
