#include "runtime/base/CudaTarget.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <cmath>

namespace lathe {

namespace {

struct Architecture {
  int major, minor;
  int sharedKib; ///< per SM; a block gets 1 KiB less
  int warps, blocks;
  int sms;
  const char *suffixes; ///< of the feature sets beyond the plain one
};

// CUDA C++ programming guide, "compute capabilities"; cuda_occupancy.h.
constexpr Architecture kArchitectures[] = {
    {8, 0, 164, 64, 32, 108, ""},    // A100
    {8, 6, 100, 48, 16, 82, ""},     // RTX 3090
    {8, 7, 164, 48, 16, 16, ""},     // Orin
    {8, 9, 100, 48, 24, 128, ""},    // RTX 4090
    {9, 0, 228, 64, 32, 132, "a"},   // H100, H200
    {10, 0, 228, 64, 32, 148, "af"}, // B200
    {10, 3, 228, 64, 32, 160, "af"}, // B300
    {11, 0, 228, 48, 24, 20, "af"},  // Thor
    {12, 0, 100, 48, 24, 36, "af"},  // RTX 5060 Ti
    {12, 1, 100, 48, 24, 48, "af"},  // GB10
};

std::string nameOf(const Architecture &row) {
  return absl::StrCat("sm_", row.major, row.minor);
}

CudaTarget targetOf(const Architecture &row, std::string arch) {
  return {.arch = std::move(arch),
          .major = row.major,
          .minor = row.minor,
          .sharedPerBlock = (row.sharedKib - 1) * 1024,
          .sharedPerSm = row.sharedKib * 1024,
          .warpsPerSm = row.warps,
          .blocksPerSm = row.blocks,
          .defaultSms = row.sms};
}

} // namespace

StatusOr<CudaTarget> parseCudaTarget(std::string_view arch) {
  std::string known;
  for (const Architecture &row : kArchitectures) {
    std::string plain = nameOf(row);
    if (arch == plain)
      return targetOf(row, plain);
    absl::StrAppend(&known, known.empty() ? "" : ", ", plain);
    for (const char *suffix = row.suffixes; *suffix; ++suffix) {
      if (arch == plain + *suffix)
        return targetOf(row, std::string(arch));
      absl::StrAppend(&known, ", ", plain, std::string(1, *suffix));
    }
  }
  return usageError(absl::StrCat("unknown CUDA architecture ",
                                 std::string(arch), ", known are ", known));
}

StatusOr<CudaTarget> cudaTargetFor(int major, int minor) {
  const Architecture *first = nullptr, *last = nullptr;
  for (const Architecture &row : kArchitectures) {
    if (row.major != major || row.minor > minor)
      continue;
    first = first ? first : &row;
    last = &row;
  }
  if (!first)
    return capacityError(absl::StrCat(
        "compute capability ", major, ".", minor,
        " is not supported, 8.0 to 12.x are; run on the CPU or another GPU"));
  if (major >= 10)
    return targetOf(*first, nameOf(*first) + "f");
  // Compute capability 9.0 is the only 9.x.
  if (major == 9 && minor == 0)
    return targetOf(*last, nameOf(*last) + "a");
  return targetOf(*last, nameOf(*last));
}

StatusOr<CudaTarget> profileLimits(std::string_view arch) {
  LATHE_ASSIGN_OR_RETURN(CudaTarget limits, parseCudaTarget(arch));
  constexpr int kStep = 32 * 1024;
  limits.sharedPerBlock = limits.sharedPerBlock / kStep * kStep;
  return limits;
}

int sharedForShare(const CudaTarget &limits, const CudaTarget &device,
                   int threads, int dynamicShared) {
  constexpr int kOfBlock = 1024; // a block costs so much more
  const int warps = (threads + 31) / 32;
  const double share =
      std::max({double(dynamicShared + kOfBlock) / limits.sharedPerSm,
                double(warps) / limits.warpsPerSm, 1.0 / limits.blocksPerSm});
  const int wanted = int(std::ceil(share * device.sharedPerSm)) - kOfBlock;
  return std::clamp(wanted, dynamicShared,
                    std::max(device.sharedPerBlock, dynamicShared));
}

bool hasClusters(const CudaTarget &target) { return target.major >= 9; }

bool hasWarpgroupMma(const CudaTarget &target) {
  return target.arch == "sm_90a";
}

bool runsOn(const CudaTarget &target, int major, int minor) {
  if (target.major != major)
    return false;
  return target.arch.ends_with('a') ? target.minor == minor
                                    : target.minor <= minor;
}

} // namespace lathe
