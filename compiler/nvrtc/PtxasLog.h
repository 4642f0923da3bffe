//===- PtxasLog.h - what ptxas says about a kernel --------------*- C++ -*-===//
//
// The resources of each entry, read from the log that NVRTC returns under
// --ptxas-options=-v. Pure and thread-safe.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_NVRTC_PTXASLOG_H
#define LATHE_COMPILER_NVRTC_PTXASLOG_H

#include <string>
#include <string_view>
#include <vector>

namespace lathe {

/// What one entry needs; per thread unless it says otherwise.
struct EntryResources {
  std::string name; ///< the symbol
  int registers = 0;
  int spillBytes = 0;   ///< stored plus loaded by spills, non-inlined callees
                        ///< included; 0: nothing spills
  int stackBytes = 0;   ///< frame, callees included: spills and local arrays
  int staticShared = 0; ///< bytes per block

  bool operator==(const EntryResources &) const = default;
};

/// The entries in the order of the log. Lines that are not understood are
/// skipped; a log without -v gives nothing.
std::vector<EntryResources> parsePtxasLog(std::string_view log);

/// `log` without the resource lines: warnings, errors and losses of performance
/// only, empty when the compilation was clean.
std::string ptxasMessages(std::string_view log);

} // namespace lathe

#endif // LATHE_COMPILER_NVRTC_PTXASLOG_H
