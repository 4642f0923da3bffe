#include "compiler/nvrtc/Nvrtc.h"

#include "compiler/nvrtc/NvrtcLibrary.h"
#include "runtime/base/CudaTarget.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <filesystem>

namespace lathe {

class Nvrtc::Impl {
public:
  NvrtcLibrary library;
  std::vector<int> architectures; ///< 90 for sm_90
  std::string fingerprint;
};

namespace {

/// Destroys the program at the end.
class Program {
public:
  explicit Program(const NvrtcLibrary &library) : library(library) {}
  ~Program() {
    if (handle)
      library.destroyProgram(&handle);
  }
  Program(const Program &) = delete;
  Program &operator=(const Program &) = delete;

  std::string log() const { return bytes(library.getLogSize, library.getLog); }
  std::string cubin() const {
    return bytes(library.getCubinSize, library.getCubin);
  }

  NvrtcProgram handle = nullptr;

private:
  using GetSize = NvrtcResult (*)(NvrtcProgram, size_t *);
  using GetBytes = NvrtcResult (*)(NvrtcProgram, char *);

  /// Empty when there is none.
  std::string bytes(GetSize getSize, GetBytes getBytes) const {
    size_t size = 0;
    if (getSize(handle, &size) != 0)
      return {};
    std::string result(size, '\0');
    if (size > 0 && getBytes(handle, result.data()) != 0)
      return {};
    return result;
  }

  const NvrtcLibrary &library;
};

std::vector<const char *> pointers(const std::vector<std::string> &strings) {
  std::vector<const char *> result;
  for (const std::string &string : strings)
    result.push_back(string.c_str());
  return result;
}

} // namespace

const EntryResources *CompiledImage::find(std::string_view entry) const {
  for (const EntryResources &candidate : resources)
    if (candidate.name == entry)
      return &candidate;
  return nullptr;
}

Nvrtc::Nvrtc(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
Nvrtc::~Nvrtc() = default;

StatusOr<std::shared_ptr<const Nvrtc>>
Nvrtc::load(const NvrtcOptions &options) {
  auto impl = std::make_unique<Impl>();
  LATHE_ASSIGN_OR_RETURN(impl->library, openNvrtc(options));
  const NvrtcLibrary &library = impl->library;
  int count = 0;
  if (library.getNumSupportedArchs(&count) == 0) {
    impl->architectures.resize(std::max(count, 0));
    if (count > 0 && library.getSupportedArchs(impl->architectures.data()) != 0)
      impl->architectures.clear();
  }
  // The patch level shows in the file's size only.
  std::error_code error;
  auto bytes = std::filesystem::file_size(library.path, error);
  impl->fingerprint = absl::StrCat("nvrtc ", library.major, ".", library.minor,
                                   " ", error ? 0 : bytes);
  return std::shared_ptr<const Nvrtc>(new Nvrtc(std::move(impl)));
}

std::string Nvrtc::version() const {
  return absl::StrCat(major(), ".", minor());
}
int Nvrtc::major() const { return impl->library.major; }
int Nvrtc::minor() const { return impl->library.minor; }
const std::string &Nvrtc::library() const { return impl->library.path; }
std::string Nvrtc::fingerprint() const { return impl->fingerprint; }

bool Nvrtc::supports(std::string_view arch) const {
  StatusOr<CudaTarget> target = parseCudaTarget(arch);
  if (!target.ok())
    return false;
  // Family targets came with 12.9.
  bool familyKnown = major() > 12 || (major() == 12 && minor() >= 9);
  if (arch.ends_with('f') && !familyKnown)
    return false;
  const std::vector<int> &known = impl->architectures;
  return std::find(known.begin(), known.end(),
                   target->major * 10 + target->minor) != known.end();
}

StatusOr<CompiledImage>
Nvrtc::compile(const CudaSource &source, std::string_view arch,
               std::span<const device::File> headers,
               std::span<const std::string> options) const {
  const NvrtcLibrary &library = impl->library;
  if (!supports(arch))
    return usageError(absl::StrCat("NVRTC ", version(), " (", library.path,
                                   ") does not compile for ", std::string(arch),
                                   ", use a newer one"));
  std::vector<std::string> names, texts;
  for (const device::File &file : headers) {
    names.emplace_back(file.path);
    texts.emplace_back(file.text.substr(0, file.text.find('\0')));
  }
  std::vector<std::string> flags = {"-arch=" + std::string(arch), "-std=c++20",
                                    "-default-device", "--ptxas-options=-v"};
  // NVRTC 13 keeps results on disk by itself; those come without a log.
  if (major() >= 13)
    flags.push_back("--no-cache");
  flags.insert(flags.end(), options.begin(), options.end());

  Program program(library);
  NvrtcResult result =
      library.createProgram(&program.handle, source.text.c_str(),
                            source.name.c_str(), static_cast<int>(names.size()),
                            pointers(texts).data(), pointers(names).data());
  if (result == 0)
    result = library.compileProgram(
        program.handle, static_cast<int>(flags.size()), pointers(flags).data());
  CompiledImage image;
  std::string log = program.handle ? program.log() : std::string();
  image.log = ptxasMessages(log);
  if (result == 0)
    image.cubin = program.cubin();
  if (image.cubin.empty())
    return internalError(
        absl::StrCat("NVRTC ", version(), " cannot compile ", source.name,
                     " for ", std::string(arch), ": ",
                     result == 0 ? "no cubin" : library.getErrorString(result),
                     image.log.empty() ? "" : "\n", image.log));
  image.resources = parsePtxasLog(log);
  return image;
}

} // namespace lathe
