//===- Host.h - what the tools ask of the machine ---------------*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_HOST_H
#define LATHE_TOOLS_INFER_HOST_H

#include <cstdint>
#include <string>

namespace lathe::cli {

/// Cores this process may use.
int coreCount();
/// Bytes that can still be allocated, by the kernel's estimate and the control
/// group's limit.
int64_t availableMemory();
/// The largest resident size of this process so far, in bytes.
int64_t peakMemory();
/// $XDG_CACHE_HOME/lathe or ~/.cache/lathe; empty when neither is set.
std::string defaultCacheDirectory();
/// $XDG_DATA_HOME/lathe or ~/.local/share/lathe; empty when neither is set.
std::string dataDirectory();
/// Whether standard error is a terminal.
bool stderrIsTerminal();

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_HOST_H
