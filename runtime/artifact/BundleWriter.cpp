#include "runtime/artifact/Bundle.h"

#include "runtime/artifact/BundleFormat.h"
#include "runtime/artifact/JsonFields.h"
#include "runtime/artifact/PlanJson.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace lathe {
namespace {

std::string reason() { return std::strerror(errno); }

/// A new directory beside `path`, mode 0700, which disappears with the object
/// unless keepAs() succeeded.
class TemporaryDirectory {
public:
  explicit TemporaryDirectory(const std::string &beside)
      : path(beside + ".XXXXXX") {
    exists = ::mkdtemp(path.data()) != nullptr;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    if (exists)
      std::filesystem::remove_all(path, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory &) = delete;

  explicit operator bool() const { return exists; }
  bool keepAs(const std::string &name) {
    if (::rename(path.c_str(), name.c_str()) != 0)
      return false;
    exists = false;
    return true;
  }

  std::string path;

private:
  bool exists;
};

Status makeDirectory(const std::string &path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST)
    return absl::OkStatus();
  return internalError(path + ": cannot create: " + reason());
}

Status writeNew(const std::string &path, std::string_view bytes) {
  Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file)
    return internalError(path + ": cannot create: " + reason());
  while (!bytes.empty()) {
    ssize_t n = ::write(file.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno == ENOSPC)
      return capacityError(path + ": the disk is full");
    if (n < 0)
      return internalError(path + ": writing failed: " + reason());
    bytes.remove_prefix(size_t(n));
  }
  return absl::OkStatus();
}

/// Fills an empty directory and remembers what the manifest says about it.
class Filler {
public:
  explicit Filler(std::string directory) : directory(std::move(directory)) {}

  Status fill(const Bundle &bundle);

private:
  StatusOr<Json> addFile(const std::string &file, std::string_view bytes);
  StatusOr<Json> addTarget(const BundleTarget &target);
  StatusOr<Json> addModel(const BundleModel &model);

  std::string directory;
};

StatusOr<Json> Filler::addFile(const std::string &file,
                               std::string_view bytes) {
  LATHE_RETURN_IF_ERROR(writeNew(directory + "/" + file, bytes));
  return Json{
      {"file", file}, {"bytes", bytes.size()}, {"xxh128", xxh128(bytes)}};
}

Json stagesOf(const PlannedKernel &kernel) {
  Json stages = Json::array();
  for (const PlannedStage &stage : kernel.stages)
    stages.push_back({{"entry", stage.entry},
                      {"registers", stage.registers},
                      {"spill_bytes", stage.spillBytes},
                      {"shared_bytes", stage.dynamicShared}});
  return stages;
}

StatusOr<Json> Filler::addTarget(const BundleTarget &target) {
  const std::string folder = "cubin/" + target.arch;
  LATHE_RETURN_IF_ERROR(makeDirectory(directory + "/plan"));
  LATHE_RETURN_IF_ERROR(makeDirectory(directory + "/cubin"));
  LATHE_RETURN_IF_ERROR(makeDirectory(directory + "/" + folder));
  auto addImage = [&](const std::string &name) {
    return addFile(folder + "/" + name + ".cubin", target.images.at(name));
  };
  Json entry = {{"arch", target.arch}};
  LATHE_ASSIGN_OR_RETURN(entry["plan"], addFile("plan/" + target.arch + ".json",
                                                planToJson(target.plan)));
  entry["kernels"] = Json::array();
  for (const PlannedKernel &kernel : target.plan.kernels) {
    LATHE_ASSIGN_OR_RETURN(Json image, addImage(kernel.name));
    Json record = {{"name", kernel.name}};
    record.update(image);
    record["stages"] = stagesOf(kernel);
    entry["kernels"].push_back(std::move(record));
  }
  LATHE_ASSIGN_OR_RETURN(entry["runtime_kernels"], addImage(kRuntimeImage));
  return entry;
}

StatusOr<Json> Filler::addModel(const BundleModel &model) {
  const auto &[source, path, hash, modelType, vocab, hidden, maxPositions,
               hasMtp, format, headFormat, config] = model;
  Json entry = {{"kind", kModelSources.begin()[size_t(source)]},
                {"path", path},
                {"hash", hash},
                {"model_type", modelType},
                {"vocab", vocab},
                {"hidden", hidden},
                {"max_positions", maxPositions},
                {"has_mtp", hasMtp},
                {"format", format},
                {"head_format", headFormat}};
  LATHE_ASSIGN_OR_RETURN(entry["config"], addFile(kConfigFile, config));
  return entry;
}

Status Filler::fill(const Bundle &bundle) {
  Json manifest = {{"format", kBundleFormat},
                   {"schema_version", kBundleSchema},
                   {"lathe_version", bundle.latheVersion},
                   {"context", bundle.context}};
  LATHE_ASSIGN_OR_RETURN(manifest["model"], addModel(bundle.model));
  manifest["targets"] = Json::array();
  for (const BundleTarget &target : bundle.targets) {
    LATHE_ASSIGN_OR_RETURN(Json entry, addTarget(target));
    manifest["targets"].push_back(std::move(entry));
  }
  return writeNew(directory + "/" + kManifestFile, readableText(manifest));
}

Status checkTarget(const BundleTarget &target) {
  if (target.arch != target.plan.target)
    return internalError("a plan for " + target.plan.target);
  if (Status status = checkPlan(target.plan); !status.ok())
    return internalError(messageOf(status));
  std::set<std::string> expected = {kRuntimeImage};
  for (const PlannedKernel &kernel : target.plan.kernels)
    if (!expected.insert(kernel.name).second)
      return internalError("a kernel called " + kernel.name);
  for (const std::string &name : expected)
    if (!target.images.contains(name))
      return internalError("no image of " + name);
  for (const auto &[name, image] : target.images)
    if (!expected.contains(name))
      return internalError("an image of " + name + ", which is no kernel");
  return absl::OkStatus();
}

Status checkBundle(const Bundle &bundle) {
  if (!bundle.model.path.starts_with('/'))
    return internalError("the model's path is not absolute: " +
                         bundle.model.path);
  std::set<std::string_view> archs;
  for (const BundleTarget &target : bundle.targets) {
    LATHE_RETURN_IF_ERROR(
        annotate(checkTarget(target), "the target " + target.arch));
    if (!archs.insert(target.arch).second)
      return internalError("two targets " + target.arch);
  }
  return absl::OkStatus();
}

std::string withoutSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/')
    path.pop_back();
  return path;
}

} // namespace

Status checkBundlePlace(const std::string &directory) {
  const std::string path = withoutSlashes(directory);
  if (path.empty() || path == "/")
    return usageError("\"" + directory + "\": expected a directory's name");
  struct stat info;
  const bool exists = ::lstat(path.c_str(), &info) == 0;
  std::error_code error;
  const auto parent = std::filesystem::path(path).parent_path();
  if (!exists && !parent.empty() && !std::filesystem::exists(parent, error))
    return usageError(path + ": cannot create: " + parent.string() +
                      " does not exist");
  if (!exists || (S_ISDIR(info.st_mode) &&
                  (std::filesystem::is_empty(path, error) || isBundle(path))))
    return absl::OkStatus();
  return usageError(path + ": exists and is not a bundle; choose another name, "
                           "or remove it first");
}

Status writeBundle(const std::string &directory, const Bundle &bundle) {
  LATHE_RETURN_IF_ERROR(checkBundlePlace(directory));
  const std::string path = withoutSlashes(directory);
  LATHE_RETURN_IF_ERROR(annotate(checkBundle(bundle), path));
  struct stat info;
  const bool exists = ::lstat(path.c_str(), &info) == 0;

  TemporaryDirectory fresh(path);
  if (!fresh)
    return usageError(path + ": cannot create: " + reason());
  LATHE_RETURN_IF_ERROR(Filler(fresh.path).fill(bundle));
  if (!exists)
    return fresh.keepAs(path)
               ? absl::OkStatus()
               : internalError(path + ": cannot rename: " + reason());
  // A directory cannot be renamed over a full one: the old one steps aside.
  TemporaryDirectory old(path);
  if (!old || ::rename(path.c_str(), old.path.c_str()) != 0)
    return internalError(path + ": cannot replace: " + reason());
  if (fresh.keepAs(path))
    return absl::OkStatus();
  Status status = internalError(path + ": cannot replace: " + reason());
  old.keepAs(path);
  return status;
}

} // namespace lathe
