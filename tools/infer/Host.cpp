#include "tools/infer/Host.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

namespace lathe::cli {

int coreCount() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0)
    return 1;
  return std::max(1, CPU_COUNT(&set));
}

/// The first integer of a file, or `fallback` ("max", no such file).
static int64_t readNumber(const char *path, int64_t fallback) {
  std::ifstream file(path);
  int64_t value;
  return file >> value ? value : fallback;
}

int64_t availableMemory() {
  int64_t available = INT64_MAX;
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  for (int64_t kib; file >> key >> kib; std::getline(file, unit))
    if (key == "MemAvailable:")
      available = kib * 1024;
  int64_t limit = readNumber("/sys/fs/cgroup/memory.max", INT64_MAX);
  int64_t used = readNumber("/sys/fs/cgroup/memory.current", 0);
  return std::min(available, limit - std::min(limit, used));
}

int64_t peakMemory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t(usage.ru_maxrss) * 1024;
}

/// The folder of the XDG specification for which `variable` stands.
static std::string userDirectory(const char *variable, const char *inHome) {
  if (const char *xdg = std::getenv(variable); xdg && *xdg)
    return std::string(xdg) + "/lathe";
  if (const char *home = std::getenv("HOME"); home && *home)
    return std::string(home) + inHome + "/lathe";
  return "";
}

std::string defaultCacheDirectory() {
  return userDirectory("XDG_CACHE_HOME", "/.cache");
}

std::string dataDirectory() {
  return userDirectory("XDG_DATA_HOME", "/.local/share");
}

bool stderrIsTerminal() { return isatty(STDERR_FILENO) == 1; }

} // namespace lathe::cli
