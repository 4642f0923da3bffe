#include "compiler/nvrtc/NvrtcLibrary.h"

#include "absl/strings/str_cat.h"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <vector>

namespace lathe {

namespace fs = std::filesystem;

namespace {

constexpr const char *kNames[] = {"libnvrtc.so.13", "libnvrtc.so.12",
                                  "libnvrtc.so"};
constexpr const char *kFolders[] = {"", "lib64", "targets/x86_64-linux/lib",
                                    "targets/sbsa-linux/lib", "lib"};

/// A place to try; `problem` when it is known not to do.
struct Place {
  std::string name; ///< for dlopen
  const char *problem = nullptr;
};

void addCandidate(const std::string &candidate, std::vector<Place> &places) {
  std::error_code ignored;
  if (!fs::is_directory(candidate, ignored)) {
    bool exists = fs::exists(candidate, ignored);
    places.push_back({candidate, exists ? nullptr : "does not exist"});
    return;
  }
  size_t before = places.size();
  for (const char *folder : kFolders)
    for (const char *name : kNames)
      if (fs::path path = fs::path(candidate) / folder / name;
          fs::exists(path, ignored)) {
        places.push_back({path.string()});
        break;
      }
  if (places.size() == before)
    places.push_back({candidate, "no libnvrtc in it"});
}

/// /usr/local/cuda and /usr/local/cuda-*, newest first.
std::vector<std::string> toolkits() {
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator at("/usr/local", error), end; at != end;
       at.increment(error))
    if (at->path().filename().string().starts_with("cuda"))
      found.push_back(at->path().string());
  // "cuda" itself is the administrator's choice; by length, because cuda-9.2
  // would sort behind cuda-13.0 as text.
  std::sort(found.begin(), found.end(), [](const auto &a, const auto &b) {
    bool aPlain = a == "/usr/local/cuda", bPlain = b == "/usr/local/cuda";
    if (aPlain != bPlain)
      return aPlain;
    return a.size() != b.size() ? a.size() > b.size() : a > b;
  });
  if (found.empty())
    found.push_back("/usr/local/cuda");
  return found;
}

std::vector<Place> search(const NvrtcOptions &options) {
  std::vector<Place> places;
  for (const std::string &candidate : options.candidates)
    if (!candidate.empty())
      addCandidate(candidate, places);
  if (options.searchSystem) {
    places.push_back({"libnvrtc.so.13"});
    places.push_back({"libnvrtc.so.12"});
    for (const std::string &toolkit : toolkits())
      addCandidate(toolkit, places);
  }
  return places;
}

std::string loaderError() {
  const char *text = ::dlerror();
  return text ? text : "unknown error";
}

/// Fills the functions; returns the first that is missing, or null.
const char *resolve(void *handle, NvrtcLibrary &library) {
  const char *missing = nullptr;
  auto find = [&](auto &function, const char *symbol) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(
        ::dlsym(handle, symbol));
    if (!function && !missing)
      missing = symbol;
  };
  find(library.getErrorString, "nvrtcGetErrorString");
  find(library.getVersion, "nvrtcVersion");
  find(library.getNumSupportedArchs, "nvrtcGetNumSupportedArchs");
  find(library.getSupportedArchs, "nvrtcGetSupportedArchs");
  find(library.createProgram, "nvrtcCreateProgram");
  find(library.destroyProgram, "nvrtcDestroyProgram");
  find(library.compileProgram, "nvrtcCompileProgram");
  find(library.getCubinSize, "nvrtcGetCUBINSize");
  find(library.getCubin, "nvrtcGetCUBIN");
  find(library.getLogSize, "nvrtcGetProgramLogSize");
  find(library.getLog, "nvrtcGetProgramLog");
  return missing;
}

/// NVRTC opens its builtins by bare name at every compilation, which fails for
/// a library outside the loader's path unless they are loaded already.
bool loadBuiltins(const NvrtcLibrary &library) {
  std::string name =
      absl::StrCat("libnvrtc-builtins.so.", library.major, ".", library.minor);
  std::string beside = (fs::path(library.path).parent_path() / name).string();
  return ::dlopen(beside.c_str(), RTLD_NOW | RTLD_GLOBAL) ||
         ::dlopen(name.c_str(), RTLD_NOW | RTLD_GLOBAL);
}

/// Opens `place` or returns why it does not do.
std::string tryPlace(const Place &place, NvrtcLibrary &library) {
  if (place.problem)
    return absl::StrCat(place.name, " (", place.problem, ")");
  void *handle = ::dlopen(place.name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle)
    return absl::StrCat(place.name, " (", loaderError(), ")");
  std::string reason;
  library = {};
  if (const char *missing = resolve(handle, library))
    reason = absl::StrCat("it has no ", missing);
  else if (library.getVersion(&library.major, &library.minor) != 0)
    reason = "it does not tell its version";
  if (reason.empty()) {
    Dl_info info;
    bool located =
        ::dladdr(reinterpret_cast<void *>(library.getVersion), &info) != 0;
    library.path = located ? info.dli_fname : place.name;
    if (!loadBuiltins(library))
      reason = absl::StrCat("its builtins do not load: ", loaderError());
  }
  if (reason.empty())
    return {};
  ::dlclose(handle);
  return absl::StrCat(place.name, " (", reason, ")");
}

} // namespace

StatusOr<NvrtcLibrary> openNvrtc(const NvrtcOptions &options) {
  std::string tried;
  for (const Place &place : search(options)) {
    NvrtcLibrary library;
    std::string reason = tryPlace(place, library);
    if (reason.empty())
      return library;
    absl::StrAppend(&tried, tried.empty() ? "" : ", ", reason);
  }
  return capacityError(absl::StrCat(
      "no NVRTC (libnvrtc.so.13 or .12), which compiles kernels for the GPU; "
      "install the CUDA toolkit's NVRTC or set CUDA_HOME, or run a bundle made "
      "with `infer compile`, which does not need it; tried: ",
      tried.empty() ? "nothing" : tried));
}

} // namespace lathe
