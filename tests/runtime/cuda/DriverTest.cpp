#include "tests/runtime/cuda/CudaFixture.h"

namespace lathe::cuda {
namespace {

constexpr int kDeviceExit = 4;

TEST_F(CudaTest, NoLibraryListsWhatWasTried) {
  auto driver = Driver::load({.libraries = {"libnone.so.1", "/no/libcuda.so"}});
  ASSERT_FALSE(driver.ok());
  EXPECT_EQ(exitCode(driver.status()), kDeviceExit);
  EXPECT_TRUE(contains(driver.status(), "libnone.so.1")) << driver.status();
  EXPECT_TRUE(contains(driver.status(), "/no/libcuda.so")) << driver.status();
}

TEST_F(CudaTest, TakesTheFirstLibraryThatOpens) {
  auto driver = Driver::load({.libraries = {"libnone.so.1", LATHE_FAKE_CUDA}});
  ASSERT_TRUE(driver.ok()) << driver.status();
  EXPECT_EQ((*driver)->library(), LATHE_FAKE_CUDA);
  EXPECT_EQ((*driver)->version(), 13000);
}

TEST_F(CudaTest, OtherLibraryIsNoDriver) {
  auto driver = Driver::load({.libraries = {"libm.so.6"}});
  ASSERT_FALSE(driver.ok());
  EXPECT_TRUE(contains(driver.status(), "libm.so.6 is no CUDA driver"));
}

TEST_F(CudaTest, MissingSymbolIsNamed) {
  auto driver = Driver::load({.libraries = {LATHE_FAKE_CUDA_OLD}});
  ASSERT_FALSE(driver.ok());
  EXPECT_EQ(exitCode(driver.status()), kDeviceExit);
  EXPECT_TRUE(contains(driver.status(), "lacks cuGraphUpload, update"))
      << driver.status();
}

TEST_F(CudaTest, OldDriverSaysFoundAndNeeded) {
  config->version = 12040;
  auto driver = Driver::load(options());
  ASSERT_FALSE(driver.ok());
  EXPECT_EQ(exitCode(driver.status()), kDeviceExit);
  EXPECT_TRUE(contains(driver.status(), "supports CUDA 12.4, CUDA 12.8"))
      << driver.status();

  DriverOptions lenient = options();
  lenient.minimumVersion = 12000;
  EXPECT_TRUE(Driver::load(lenient).ok());
}

TEST_F(CudaTest, NoDeviceAtInit) {
  config->initResult = abi::NoDevice;
  auto driver = Driver::load(options());
  ASSERT_FALSE(driver.ok());
  EXPECT_EQ(exitCode(driver.status()), kDeviceExit);
  EXPECT_TRUE(contains(driver.status(), "cuInit failed: CUDA error 100"));
  EXPECT_TRUE(contains(driver.status(), "no NVIDIA GPU is visible"));
}

TEST_F(CudaTest, DescribesDevices) {
  config->devices = 2;
  auto driver = Driver::load(options());
  ASSERT_TRUE(driver.ok());
  auto devices = (*driver)->devices();
  ASSERT_TRUE(devices.ok());
  ASSERT_EQ(devices->size(), 2u);
  const DeviceInfo &second = (*devices)[1];
  EXPECT_EQ(second.ordinal, 1);
  EXPECT_EQ(second.name, "Fake GPU 1");
  EXPECT_EQ(second.uuid, "GPU-10111213-1415-1617-1819-1a1b1c1d1e1f");
  EXPECT_EQ(second.major, 9);
  EXPECT_EQ(second.sms, 132);
  EXPECT_EQ(second.l2Bytes, 60 << 20);
  EXPECT_EQ(second.memoryBusBits, 6144);
  EXPECT_EQ(second.totalBytes, int64_t(1) << 30);
  EXPECT_EQ(second.sharedPerBlock, 227 << 10);
  EXPECT_EQ(state->contexts, 0);
}

TEST_F(CudaTest, NoDevices) {
  config->devices = 0;
  auto driver = Driver::load(options());
  ASSERT_TRUE(driver.ok());
  EXPECT_EQ(exitCode((*driver)->devices().status()), kDeviceExit);
}

TEST_F(CudaTest, FreeMemoryWithoutContext) {
  auto driver = Driver::load(options());
  ASSERT_TRUE(driver.ok());
  auto memory = (*driver)->memory(0);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->freeBytes, int64_t(1) << 30);
  EXPECT_EQ(exitCode((*driver)->memory(3).status()), 2);
}

TEST_F(CudaTest, SelectsDevice) {
  std::vector<DeviceInfo> devices(2);
  devices[0].name = "first";
  devices[1].ordinal = 1;
  devices[1].name = "second";
  EXPECT_EQ(selectDevice(devices, "cuda")->name, "first");
  EXPECT_EQ(selectDevice(devices, "cuda:1")->name, "second");
  for (const char *wrong : {"cuda:2", "cuda:", "cuda:1x", "gpu", "cuda:-1"}) {
    Status status = selectDevice(devices, wrong).status();
    EXPECT_EQ(exitCode(status), 2) << wrong;
    EXPECT_TRUE(contains(status, "cuda:1 (second")) << status;
  }
  EXPECT_EQ(exitCode(selectDevice({}, "cuda").status()), kDeviceExit);
}

TEST_F(CudaTest, BusyDeviceAndUnknownOrdinal) {
  auto driver = Driver::load(options());
  ASSERT_TRUE(driver.ok());
  EXPECT_EQ(exitCode(Context::create(*driver, 5).status()), 2);
  config->retainResult = abi::DeviceUnavailable;
  Status busy = Context::create(*driver, 0).status();
  EXPECT_EQ(exitCode(busy), kDeviceExit);
  EXPECT_TRUE(contains(busy, "another process holds the GPU")) << busy;
}

} // namespace
} // namespace lathe::cuda
