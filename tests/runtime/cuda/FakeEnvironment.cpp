// Configures the fake driver of a process that does not know it: the tests of
// infer set LATHE_FAKE_CUDA="version=12040 devices=0 major=8 minor=0
// memory=4096".

#include "tests/runtime/cuda/FakeObjects.h"

#include <cstdio>
#include <cstdlib>
#include <sstream>

namespace lathe::cuda::fake {

static bool configure(Config &config) {
  const char *text = std::getenv("LATHE_FAKE_CUDA");
  std::istringstream words(text ? text : "");
  std::string key;
  for (long long value; std::getline(words >> std::ws, key, '=');) {
    words >> value;
    if (key == "memory")
      config.totalBytes = size_t(value);
    else if (key == "version")
      config.version = int(value);
    else if (key == "devices")
      config.devices = int(value);
    else if (key == "major")
      config.major = int(value);
    else if (key == "minor")
      config.minor = int(value);
    else
      std::fprintf(stderr, "LATHE_FAKE_CUDA: unknown key %s\n", key.c_str());
  }
  return true;
}

[[maybe_unused]] static const bool configured = configure(driver().config);

} // namespace lathe::cuda::fake
