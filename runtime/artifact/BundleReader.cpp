#include "runtime/artifact/Bundle.h"

#include "runtime/artifact/BundleFormat.h"
#include "runtime/artifact/JsonFields.h"
#include "runtime/artifact/PlanJson.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

namespace lathe {

std::string xxh128(std::string_view bytes) {
  XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx",
                static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

Fd::~Fd() {
  if (fd >= 0)
    ::close(fd);
}

namespace {

constexpr int64_t kMaxManifestBytes = int64_t(64) << 20;
constexpr int64_t kMaxFileBytes = int64_t(1) << 30;
constexpr char kCompileAgain[] = "; compile it again with infer compile";

struct FileRef {
  std::string file;
  int64_t bytes = 0;
  std::string checksum;
};

struct KernelRef {
  std::string name;
  FileRef image;
  Json stages;
};

struct TargetRef {
  std::string arch;
  FileRef plan;
  std::vector<KernelRef> kernels;
  FileRef runtimeKernels;
};

struct Manifest {
  Bundle bundle; ///< without its targets
  FileRef config;
  std::vector<TargetRef> targets;
};

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

/// Opens files of one directory, and only those.
class Directory {
public:
  static StatusOr<Directory> open(const std::string &path);

  /// A file of at most `maxBytes` by its path in the directory.
  StatusOr<std::string> read(const std::string &file, int64_t maxBytes) const;
  /// A file with this size and checksum.
  StatusOr<std::string> read(const FileRef &ref) const;
  std::string pathOf(const std::string &file) const {
    return path + "/" + file;
  }
  /// modelError "<directory>/<file>: <message>; <what to do>".
  Status damaged(const std::string &file, const std::string &message) const {
    return modelError(pathOf(file) + ": " + message + kCompileAgain);
  }

private:
  Directory(Fd fd, std::string path)
      : root(std::move(fd)), path(std::move(path)) {}
  StatusOr<Fd> openInside(const std::string &file, struct stat &info) const;

  Fd root;
  std::string path;
};

/// Code that another user can change is not executed.
Status checkTrusted(const std::string &name, const struct stat &info,
                    const std::string &directory) {
  if (info.st_uid != ::geteuid())
    return modelError(name +
                      ": belongs to another user; code from it will not "
                      "be executed" +
                      kCompileAgain);
  if (info.st_mode & (S_IWGRP | S_IWOTH))
    return modelError(name +
                      ": can be written by other users; if you trust "
                      "it, run chmod -R go-w " +
                      directory);
  return absl::OkStatus();
}

StatusOr<Directory> Directory::open(const std::string &path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat info;
  if (!fd || ::fstat(fd.get(), &info) != 0)
    return modelError(path +
                      ": cannot open the bundle: " + std::strerror(errno));
  LATHE_RETURN_IF_ERROR(checkTrusted(path, info, path));
  return Directory(std::move(fd), path);
}

StatusOr<Fd> Directory::openInside(const std::string &file,
                                   struct stat &info) const {
  Fd at;
  size_t begin = 0;
  while (begin <= file.size()) {
    size_t end = std::min(file.find('/', begin), file.size());
    const bool isLast = end == file.size();
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK |
                      (isLast ? 0 : O_DIRECTORY);
    Fd next(::openat(at ? at.get() : root.get(),
                     file.substr(begin, end - begin).c_str(), flags));
    const std::string prefix = file.substr(0, end);
    if (!next || ::fstat(next.get(), &info) != 0)
      return damaged(prefix,
                     std::string("cannot open: ") + std::strerror(errno));
    if (isLast && !S_ISREG(info.st_mode))
      return damaged(prefix, "expected a regular file");
    LATHE_RETURN_IF_ERROR(checkTrusted(pathOf(prefix), info, path));
    at = std::move(next);
    begin = end + 1;
  }
  return at;
}

StatusOr<std::string> Directory::read(const std::string &file,
                                      int64_t maxBytes) const {
  struct stat info;
  LATHE_ASSIGN_OR_RETURN(Fd fd, openInside(file, info));
  if (info.st_size > maxBytes)
    return damaged(file, "expected at most " + std::to_string(maxBytes) +
                             " bytes, found " + std::to_string(info.st_size));
  std::string bytes(size_t(info.st_size), '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    ssize_t n = ::read(fd.get(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return internalError(pathOf(file) +
                           ": reading failed: " + std::strerror(errno));
    if (n == 0)
      return damaged(file, "expected " + std::to_string(bytes.size()) +
                               " bytes, found " + std::to_string(done));
    done += size_t(n);
  }
  return bytes;
}

StatusOr<std::string> Directory::read(const FileRef &ref) const {
  LATHE_ASSIGN_OR_RETURN(std::string bytes, read(ref.file, kMaxFileBytes));
  if (int64_t(bytes.size()) != ref.bytes)
    return damaged(ref.file, "expected " + std::to_string(ref.bytes) +
                                 " bytes, found " +
                                 std::to_string(bytes.size()));
  if (std::string found = xxh128(bytes); found != ref.checksum)
    return damaged(ref.file, "expected the checksum " + ref.checksum +
                                 ", found " + found);
  return bytes;
}

//===----------------------------------------------------------------------===//
// The manifest
//===----------------------------------------------------------------------===//

bool staysInside(std::string_view path) {
  for (size_t begin = 0; begin <= path.size();) {
    size_t end = std::min(path.find('/', begin), path.size());
    std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..")
      return false;
    begin = end + 1;
  }
  return path.find('\0') == path.npos;
}

FileRef fileFields(JsonFields &fields) {
  FileRef ref;
  ref.file = fields.text("file");
  if (!staysInside(ref.file))
    fields.fail("file", "expected a path inside the bundle, found \"" +
                            ref.file.substr(0, 100) + "\"");
  ref.bytes = fields.integer<int64_t>("bytes", 0, kMaxFileBytes);
  ref.checksum = fields.text("xxh128");
  return ref;
}

FileRef fileFrom(JsonFields fields) {
  FileRef ref = fileFields(fields);
  fields.finish();
  return ref;
}

KernelRef kernelFrom(JsonFields fields) {
  KernelRef kernel;
  kernel.name = fields.text("name");
  kernel.image = fileFields(fields);
  kernel.stages = Json::array();
  for (const auto &[path, stage] : fields.elements("stages"))
    kernel.stages.push_back(*stage);
  fields.finish();
  return kernel;
}

TargetRef targetFrom(JsonFields fields) {
  TargetRef target;
  target.arch = fields.text("arch");
  fields.object("plan", [&](JsonFields f) { target.plan = fileFrom(f); });
  target.kernels = fields.objects("kernels", kernelFrom);
  fields.object("runtime_kernels",
                [&](JsonFields f) { target.runtimeKernels = fileFrom(f); });
  fields.finish();
  return target;
}

void readModel(JsonFields fields, BundleModel &model, FileRef &config) {
  auto &[source, path, hash, modelType, vocab, hidden, maxPositions, hasMtp,
         format, headFormat, text] = model;
  source = ModelSource(fields.oneOf("kind", kModelSources));
  path = fields.text("path");
  if (!path.starts_with('/'))
    fields.fail("path", "expected an absolute path, found \"" +
                            path.substr(0, 100) + "\"");
  hash = fields.text("hash");
  modelType = fields.text("model_type");
  vocab = fields.integer<int64_t>("vocab", 1);
  hidden = fields.integer<int64_t>("hidden", 1);
  maxPositions = fields.integer<int64_t>("max_positions", 1);
  hasMtp = fields.boolean("has_mtp");
  format = fields.text("format");
  headFormat = fields.text("head_format");
  fields.object("config", [&](JsonFields f) { config = fileFrom(f); });
  fields.finish();
}

/// Another schema may have any other field, so this comes first.
Status checkSchema(const Json &root, const std::string &file) {
  if (!root.is_object() || !root.contains("format") ||
      root["format"] != kBundleFormat)
    return modelError(file + ": format: expected \"" + kBundleFormat +
                      "\"; this is no bundle");
  if (root.contains("schema_version") &&
      root["schema_version"] == kBundleSchema)
    return absl::OkStatus();
  std::string found = root.contains("schema_version")
                          ? root["schema_version"].dump().substr(0, 60)
                          : "none";
  return modelError(file + ": schema_version: expected " +
                    std::to_string(kBundleSchema) + ", found " + found +
                    kCompileAgain);
}

StatusOr<Manifest> parseManifest(std::string_view text,
                                 const std::string &file) {
  LATHE_ASSIGN_OR_RETURN(Json root, parseStrictly(text, file));
  LATHE_RETURN_IF_ERROR(checkSchema(root, file));
  JsonProblem problem{file, {}};
  JsonFields fields(root, "", problem);
  Manifest manifest;
  fields.text("format");
  fields.integer<int64_t>("schema_version");
  manifest.bundle.latheVersion = fields.text("lathe_version");
  manifest.bundle.context = fields.integer<int64_t>("context", 1);
  fields.object("model", [&](JsonFields model) {
    readModel(std::move(model), manifest.bundle.model, manifest.config);
  });
  manifest.targets = fields.objects("targets", targetFrom);
  fields.finish();
  if (!problem.status.ok())
    return modelError(messageOf(problem.status) + kCompileAgain);
  return manifest;
}

//===----------------------------------------------------------------------===//
// A target
//===----------------------------------------------------------------------===//

/// What the manifest says about the kernels is what the plan says.
Status checkKernels(const Directory &directory, const TargetRef &target,
                    const Plan &plan) {
  if (plan.target != target.arch)
    return directory.damaged(target.plan.file, "target: expected " +
                                                   target.arch + ", found " +
                                                   plan.target);
  bool same = plan.kernels.size() == target.kernels.size();
  for (size_t i = 0; same && i < plan.kernels.size(); ++i) {
    const PlannedKernel &kernel = plan.kernels[i];
    const KernelRef &ref = target.kernels[i];
    same = kernel.name == ref.name && kernel.name != kRuntimeImage &&
           kernel.stages.size() == ref.stages.size();
    for (size_t j = 0; same && j < kernel.stages.size(); ++j)
      same = ref.stages[j].is_object() && ref.stages[j].contains("entry") &&
             ref.stages[j]["entry"] == kernel.stages[j].entry;
  }
  if (same)
    return absl::OkStatus();
  return directory.damaged(kManifestFile, "the kernels of " + target.arch +
                                              " are not those of " +
                                              target.plan.file);
}

StatusOr<BundleTarget> readTarget(const Directory &directory,
                                  const TargetRef &ref) {
  BundleTarget target;
  target.arch = ref.arch;
  LATHE_ASSIGN_OR_RETURN(std::string text, directory.read(ref.plan));
  StatusOr<Plan> plan = planFromJson(text, directory.pathOf(ref.plan.file));
  if (!plan.ok())
    return modelError(messageOf(plan.status()) + kCompileAgain);
  target.plan = *std::move(plan);
  LATHE_RETURN_IF_ERROR(checkKernels(directory, ref, target.plan));
  for (const KernelRef &kernel : ref.kernels) {
    LATHE_ASSIGN_OR_RETURN(target.images[kernel.name],
                           directory.read(kernel.image));
  }
  LATHE_ASSIGN_OR_RETURN(target.images[kRuntimeImage],
                         directory.read(ref.runtimeKernels));
  return target;
}

} // namespace

bool isBundle(const std::string &directory) {
  // No questions about owners here, or a bundle that readBundle() refuses
  // would be taken for a damaged checkpoint.
  std::ifstream in(directory + "/" + kManifestFile, std::ios::binary);
  std::string text;
  for (char part[65536]; in && int64_t(text.size()) <= kMaxManifestBytes;) {
    in.read(part, sizeof part);
    text.append(part, size_t(in.gcount()));
  }
  Json root = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) // damaged, which readBundle() says better
    return text.find(kBundleFormat) != text.npos;
  return root.is_object() && root.contains("format") &&
         root["format"] == kBundleFormat;
}

StatusOr<Bundle> readBundle(const std::string &path,
                            const ChooseTarget &choose) {
  LATHE_ASSIGN_OR_RETURN(Directory directory, Directory::open(path));
  LATHE_ASSIGN_OR_RETURN(std::string text,
                         directory.read(kManifestFile, kMaxManifestBytes));
  LATHE_ASSIGN_OR_RETURN(Manifest manifest,
                         parseManifest(text, directory.pathOf(kManifestFile)));
  Bundle bundle = std::move(manifest.bundle);
  LATHE_ASSIGN_OR_RETURN(bundle.model.config, directory.read(manifest.config));
  std::string archs;
  for (const TargetRef &ref : manifest.targets) {
    archs += (archs.empty() ? "" : ", ") + ref.arch;
    if (choose && (!choose(ref.arch) || !bundle.targets.empty()))
      continue;
    LATHE_ASSIGN_OR_RETURN(BundleTarget target, readTarget(directory, ref));
    bundle.targets.push_back(std::move(target));
  }
  if (choose && bundle.targets.empty())
    return modelError(path + ": has code for " +
                      (archs.empty() ? "nothing" : archs) +
                      ", but not for this GPU; compile it again for the target "
                      "that infer devices shows");
  return bundle;
}

} // namespace lathe
