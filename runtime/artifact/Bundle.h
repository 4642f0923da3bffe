//===- Bundle.h - a compiled model on disk ----------------------*- C++ -*-===//
//
// A bundle is a directory with everything that runs a model but its weights:
//
//   manifest.json             what is here, with sizes and checksums
//   config.json               a copy of the model's
//   plan/<arch>.json          the plan for an architecture (PlanJson.h)
//   cubin/<arch>/<kernel>.cubin
//
// It runs without a compiler. The weights stay in the checkpoint, which the
// manifest names by path and by hash. Format: docs/bundles.md.
//
// A bundle is code, so reading one is strict: every directory and file belongs
// to this user and cannot be written by others, nothing is reached through a
// symbolic link, sizes and checksums match, and the schema version is exactly
// the one below. Anything else is a modelError that names the file and the
// field. All functions are pure but for the file system, and thread-safe.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ARTIFACT_BUNDLE_H
#define LATHE_RUNTIME_ARTIFACT_BUNDLE_H

#include "runtime/artifact/Plan.h"
#include "runtime/base/Status.h"

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

/// Raised when the manifest, the plan or the ABI of kernels changes. There is
/// no migration: a bundle is compiled again in seconds.
inline constexpr int64_t kBundleSchema = 2;

/// The image of BundleTarget::images that holds the library kernels, which no
/// plan launches: packing, sampling.
inline constexpr char kRuntimeImage[] = "runtime";

enum class ModelSource : uint8_t { Checkpoint, Synthetic };

/// The model that a bundle was compiled from.
struct BundleModel {
  ModelSource source = ModelSource::Checkpoint;
  std::string path; ///< absolute: the checkpoint, or the synthetic config.json
  std::string hash; ///< modelHash() or configHash() of runtime/io
  std::string modelType;
  int64_t vocab = 0, hidden = 0, maxPositions = 0;
  bool hasMtp = false;
  /// Synthetic only: the formats of weights and of the head; else empty.
  std::string format, headFormat;
  std::string config; ///< the text of config.json

  bool operator==(const BundleModel &) const = default;
};

/// The code for one architecture.
struct BundleTarget {
  std::string arch; ///< "sm_90", equal to plan.target
  Plan plan;
  /// Cubins by kernel: one for each kernel of the plan, and kRuntimeImage.
  std::map<std::string, std::string> images;
};

struct Bundle {
  std::string latheVersion; ///< of the compiler
  BundleModel model;
  int64_t context = 0; ///< the most positions it was planned for
  std::vector<BundleTarget> targets;
};

/// Picks an architecture among those of a bundle.
using ChooseTarget = std::function<bool(std::string_view arch)>;

/// Whether `directory` has the manifest of a bundle, of any schema version. Not
/// a promise that readBundle() succeeds.
bool isBundle(const std::string &directory);

/// Reads the first target that `choose` accepts, or all of them when it is
/// null; files of other targets are not opened. modelError when it accepts
/// none, naming those that are there.
StatusOr<Bundle> readBundle(const std::string &directory,
                            const ChooseTarget &choose);

/// OK when writeBundle() may write to `directory`, else the usageError that it
/// would return: to ask before the work of compiling.
Status checkBundlePlace(const std::string &directory);

/// Writes a bundle that only this user can read, in place of an older bundle
/// or an empty directory of that name. The new one appears complete or not at
/// all; parent directories have to exist. usageError when `directory` is
/// anything else, internalError when `bundle` contradicts itself,
/// capacityError when the disk is full.
Status writeBundle(const std::string &directory, const Bundle &bundle);

} // namespace lathe

#endif // LATHE_RUNTIME_ARTIFACT_BUNDLE_H
