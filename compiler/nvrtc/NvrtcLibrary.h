//===- NvrtcLibrary.h - finding and opening NVRTC ---------------*- C++ -*-===//
//
// The functions of NVRTC that Lathe uses, and the search for the library.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_NVRTC_NVRTCLIBRARY_H
#define LATHE_COMPILER_NVRTC_NVRTCLIBRARY_H

#include "compiler/nvrtc/Nvrtc.h"
#include "runtime/base/Status.h"

#include <cstddef>
#include <string>

namespace lathe {

/// nvrtcResult; zero is success.
using NvrtcResult = int;
using NvrtcProgram = struct NvrtcProgramHandle *;

struct NvrtcLibrary {
  std::string path; ///< resolved, so that it says what was opened
  int major = 0;
  int minor = 0;

  const char *(*getErrorString)(NvrtcResult) = nullptr;
  NvrtcResult (*getVersion)(int *major, int *minor) = nullptr;
  NvrtcResult (*getNumSupportedArchs)(int *count) = nullptr;
  NvrtcResult (*getSupportedArchs)(int *archs) = nullptr;
  NvrtcResult (*createProgram)(NvrtcProgram *program, const char *source,
                               const char *name, int headerCount,
                               const char *const *headers,
                               const char *const *headerNames) = nullptr;
  NvrtcResult (*destroyProgram)(NvrtcProgram *program) = nullptr;
  NvrtcResult (*compileProgram)(NvrtcProgram program, int optionCount,
                                const char *const *options) = nullptr;
  NvrtcResult (*getCubinSize)(NvrtcProgram program, size_t *bytes) = nullptr;
  NvrtcResult (*getCubin)(NvrtcProgram program, char *cubin) = nullptr;
  NvrtcResult (*getLogSize)(NvrtcProgram program, size_t *bytes) = nullptr;
  NvrtcResult (*getLog)(NvrtcProgram program, char *log) = nullptr;
};

/// Opens the first usable library of the search that Nvrtc.h describes, with
/// its builtins. It stays loaded until the process ends. Errors: capacityError
/// that lists every place and why it did not do.
StatusOr<NvrtcLibrary> openNvrtc(const NvrtcOptions &options);

} // namespace lathe

#endif // LATHE_COMPILER_NVRTC_NVRTCLIBRARY_H
