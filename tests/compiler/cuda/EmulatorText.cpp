#include "tests/compiler/cuda/EmulatorText.h"

#include "compiler/device/DeviceFiles.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/MemoryBuffer.h"

#include <set>

namespace lathe::difftest {

static constexpr llvm::StringRef kIntrinsics =
    "compiler/device/cuda/intrinsics";
static constexpr llvm::StringRef kEmulator =
    "tests/kernels/cuda/emulator/intrinsics.h";

/// A device header, or one of the emulator's.
static std::string contentOf(llvm::StringRef path) {
  for (const device::File &file : device::cudaFiles())
    if (file.path == std::string_view(path))
      return std::string(file.text);
  auto file =
      llvm::MemoryBuffer::getFile(LATHE_SOURCE_DIR "/" + path, /*IsText=*/true);
  if (!file)
    llvm::report_fatal_error(path + " cannot be included");
  return (*file)->getBuffer().str();
}

namespace {
struct Inliner {
  std::string result;
  std::set<std::string> seen;

  void paste(llvm::StringRef text) {
    while (!text.empty()) {
      auto [line, rest] = text.split('\n');
      text = rest;
      if (line.consume_front("#include \""))
        include(line.split('"').first);
      else if (!line.ltrim().starts_with("#pragma unroll")) // for nothing here
        result += line.str() + "\n";
    }
  }
  void include(llvm::StringRef path) {
    if (path.starts_with(kIntrinsics))
      path = kEmulator;
    if (seen.insert(path.str()).second)
      paste(contentOf(path));
  }
};
} // namespace

/// As intrinsics_math.cuh decides: from the family or the full feature set on.
static bool hasE2m1(llvm::StringRef arch) {
  return arch == "sm_120a" || arch.ends_with("f");
}

std::string emulatorText(const CudaText &source, std::string_view arch) {
  Inliner inliner;
  inliner.result = "#define LATHE_EMULATOR_DEFINE\n#define LATHE_HAS_E2M1 ";
  inliner.result += hasE2m1(arch) ? "1\n" : "0\n";
  inliner.paste(source.text);
  for (const std::string &entry : source.entries) {
    std::string call = "*ctx";
    if (source.step)
      call += ", (const LatheStage *)args[0], *(int *)args[1], *(int *)args[2]";
    for (int i = 0; i < source.operands; ++i)
      call += ", args[" + std::to_string(i) + "]";
    inliner.result += "extern \"C\" void call_" + entry +
                      "(const LatheLaunch *ctx, void *const *args) {\n" +
                      "  lathe::" + entry + "(" + call + ");\n}\n";
  }
  return std::move(inliner.result);
}

} // namespace lathe::difftest
