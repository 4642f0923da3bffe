#include "compiler/device/DeviceFiles.h"

#include "tests/compiler/TempDirectory.h"

#include "gtest/gtest.h"

#include <set>

namespace lathe {
namespace {

TEST(DeviceFilesTest, AreTheSourceTreesFiles) {
  std::set<std::string_view> paths;
  for (const device::File &file : device::cpuFiles()) {
    EXPECT_TRUE(paths.insert(file.path).second) << file.path;
    std::filesystem::path source =
        std::filesystem::path(LATHE_SOURCE_DIR) / file.path;
    EXPECT_TRUE(readFile(source) == file.text) << file.path;
  }
  EXPECT_TRUE(paths.count("runtime/base/KernelAbi.h"));
  EXPECT_TRUE(paths.count("compiler/device/cpu/prelude.h"));
  EXPECT_EQ(device::cpuFilesHash().size(), 64u);
}

} // namespace
} // namespace lathe
