#include "compiler/jit/ClangCompiler.h"

#include "compiler/device/DeviceFiles.h"

#include "clang/Basic/Diagnostic.h"
#include "clang/Basic/DiagnosticOptions.h"
#include "clang/Basic/Version.h"
#include "clang/CodeGen/CodeGenAction.h"
#include "clang/Frontend/CompilerInstance.h"
#include "clang/Frontend/CompilerInvocation.h"
#include "clang/Frontend/TextDiagnosticPrinter.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/VirtualFileSystem.h"
#include "llvm/Support/raw_ostream.h"

#include <memory>
#include <mutex>

namespace lathe {

// clang looks files up by absolute path; this one exists only in memory.
static constexpr char kRoot[] = "/lathe/";

static void initializeLlvmOnce() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    llvm::InitializeNativeTargetAsmParser(); // inline assembly
  });
}

/// The arguments of clang -cc1, without action and file.
static std::vector<std::string> flagsFor(const CpuTarget &target) {
  std::vector<std::string> flags = {
      "-triple", "x86_64-unknown-linux-gnu", "-x", "c++", "-std=c++20", "-O3",
      "-vectorize-loops", "-vectorize-slp", "-ffp-contract=on",
      // Freestanding: no loop becomes a libc call.
      "-ffreestanding", "-fno-rtti", "-nostdsysteminc", "-nobuiltininc",
      // Objects land anywhere in memory and are linked as one unit.
      "-mrelocation-model", "pic", "-pic-level", "2", "-pic-is-pie", "-w",
      "-ferror-limit", "5", "-disable-llvm-verifier", "-I", kRoot,
      "-target-cpu", target.cpu};
  llvm::SmallVector<llvm::StringRef> features;
  llvm::StringRef(target.features).split(features, ',', -1, false);
  for (llvm::StringRef feature : features)
    flags.insert(flags.end(), {"-target-feature", feature.str()});
  if (target.name == "avx512")
    flags.push_back("-mprefer-vector-width=512");
  return flags;
}

/// A file system that holds the source and the device headers.
static llvm::IntrusiveRefCntPtr<llvm::vfs::InMemoryFileSystem>
filesWith(const std::string &path, std::string_view text) {
  auto files = llvm::makeIntrusiveRefCnt<llvm::vfs::InMemoryFileSystem>();
  for (const device::File &file : device::cpuFiles())
    files->addFile(kRoot + std::string(file.path), 0,
                   llvm::MemoryBuffer::getMemBuffer(file.text));
  files->addFile(path, 0, llvm::MemoryBuffer::getMemBufferCopy(text));
  return files;
}

template <class Action>
static StatusOr<std::string>
runClang(std::vector<std::string> flags, std::string_view actionFlag,
         std::string_view name, std::string_view text) {
  initializeLlvmOnce();
  std::string path = kRoot + std::string(name) + ".cpp";
  auto files = filesWith(path, text);
  flags.emplace_back(actionFlag);
  flags.push_back(path);
  std::vector<const char *> args;
  for (const std::string &flag : flags)
    args.push_back(flag.c_str());

  std::string messages;
  llvm::raw_string_ostream messageStream(messages);
  clang::DiagnosticOptions options;
  clang::TextDiagnosticPrinter printer(messageStream, options);
  auto diagnostics = clang::CompilerInstance::createDiagnostics(
      *files, options, &printer, /*ShouldOwnClient=*/false);
  auto invocation = std::make_shared<clang::CompilerInvocation>();
  if (!clang::CompilerInvocation::CreateFromArgs(*invocation, args,
                                                 *diagnostics))
    return internalError("clang does not accept its flags: " + messages);

  llvm::SmallString<0> output;
  {
    clang::CompilerInstance instance(std::move(invocation));
    instance.setVirtualFileSystem(files);
    instance.createDiagnostics(&printer, /*ShouldOwnClient=*/false);
    instance.createFileManager();
    instance.setVerboseOutputStream(std::make_unique<llvm::raw_null_ostream>());
    instance.setOutputStream(
        std::make_unique<llvm::raw_svector_ostream>(output));
    Action action; // owns its LLVMContext
    bool ok = instance.ExecuteAction(action);
    if (!ok || instance.getDiagnostics().hasErrorOccurred() || output.empty())
      return internalError("kernel does not compile:\n" + messages);
  }
  return std::string(output);
}

ClangCompiler::ClangCompiler(CpuTarget target)
    : cpuTarget(std::move(target)), flags(flagsFor(cpuTarget)) {
  identity = clang::getClangFullVersion();
  identity += '\n' + cpuTarget.name + '\n';
  for (const std::string &flag : flags)
    identity += flag + ' ';
  identity += '\n';
  identity += device::cpuFilesHash();
}

StatusOr<std::string> ClangCompiler::compile(std::string_view name,
                                             std::string_view text) const {
  return runClang<clang::EmitObjAction>(flags, "-emit-obj", name, text);
}

StatusOr<std::string> ClangCompiler::assembly(std::string_view name,
                                              std::string_view text) const {
  return runClang<clang::EmitAssemblyAction>(flags, "-S", name, text);
}

} // namespace lathe
