#include "compiler/jit/CpuTarget.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/TargetParser/Host.h"

#include <initializer_list>
#include <map>

namespace lathe {

/// The names of `wanted` that `features` lacks, separated by ", ".
static std::string missing(const std::map<std::string, bool> &features,
                           std::initializer_list<const char *> wanted) {
  std::string names;
  for (const char *name : wanted) {
    auto it = features.find(name);
    if (it != features.end() && it->second)
      continue;
    names += names.empty() ? "" : ", ";
    names += name;
  }
  return names;
}

StatusOr<CpuTarget> hostTarget(bool forceAvx2) {
  std::map<std::string, bool> features;
  for (const auto &feature : llvm::sys::getHostCPUFeatures())
    features[feature.getKey().str()] = feature.getValue();

  CpuTarget target;
  target.cpu = llvm::sys::getHostCPUName().str();
  std::string lacking = missing(features, {"avx2", "fma", "f16c"});
  if (!lacking.empty())
    return internalError("CPU kernels need AVX2, FMA and F16C (Haswell, Zen "
                         "or later); this CPU (" +
                         target.cpu + ") lacks " + lacking);
  bool wide =
      !forceAvx2 && missing(features, {"avx512f", "avx512bw", "avx512vl",
                                       "avx512dq", "avx512vnni"})
                        .empty();
  target.name = wide ? "avx512" : "avx2";
  for (auto &[name, enabled] : features) {
    // AVX10 implies AVX-512.
    if (!wide && (name.starts_with("avx512") || name.starts_with("avx10")))
      enabled = false;
    target.features += target.features.empty() ? "" : ",";
    target.features += (enabled ? "+" : "-") + name;
  }
  return target;
}

} // namespace lathe
