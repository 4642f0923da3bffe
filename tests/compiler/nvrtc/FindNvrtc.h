//===- FindNvrtc.h - NVRTC where infer looks for it -------------*- C++ -*-===//

#ifndef LATHE_TESTS_COMPILER_NVRTC_FINDNVRTC_H
#define LATHE_TESTS_COMPILER_NVRTC_FINDNVRTC_H

#include "compiler/nvrtc/Nvrtc.h"

#include <cstdlib>

namespace lathe {

/// $LATHE_NVRTC and nothing else; or what tools/setup fetched, or the system's.
inline StatusOr<std::shared_ptr<const Nvrtc>> findNvrtc() {
  auto variable = [](const char *name) {
    const char *value = std::getenv(name);
    return std::string(value ? value : "");
  };
  if (std::string only = variable("LATHE_NVRTC"); !only.empty())
    return Nvrtc::load({.candidates = {only}, .searchSystem = false});
  std::string data = variable("XDG_DATA_HOME");
  if (data.empty())
    data = variable("HOME") + "/.local/share";
  return Nvrtc::load({.candidates = {data + "/lathe/nvrtc"}});
}

} // namespace lathe

#endif // LATHE_TESTS_COMPILER_NVRTC_FINDNVRTC_H
