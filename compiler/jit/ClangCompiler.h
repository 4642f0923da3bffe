//===- ClangCompiler.h - C++ text to object bytes, in-process ---*- C++ -*-===//
//
// clang as a library: no child process, no temporary file, no access to the
// file system. A source can include the embedded device headers (see
// compiler/device/DeviceFiles.h) and nothing else. The same source, target and
// compiler version give the same bytes.
//
// Language: C++20, freestanding, without exceptions and RTTI, optimised at -O3.
// Floating point is strict except that `a * b + c` within one expression is
// fused (-ffp-contract=on): what is fused depends on the source, not on the
// optimiser, so both instruction sets round alike. There is no fast-math.
// Warnings are off.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_JIT_CLANGCOMPILER_H
#define LATHE_COMPILER_JIT_CLANGCOMPILER_H

#include "compiler/jit/CpuTarget.h"
#include "runtime/base/Status.h"

#include <string>
#include <string_view>
#include <vector>

namespace lathe {

/// Cheap to construct: clang and LLVM are initialised by the first compile().
/// Thread-safe: concurrent calls share nothing.
class ClangCompiler {
public:
  explicit ClangCompiler(CpuTarget target);

  /// Compiles `text` to an ELF relocatable object for x86-64. Diagnostics call
  /// the source `name`.cpp. Fails with clang's errors: file, line, column, the
  /// line itself and a caret.
  StatusOr<std::string> compile(std::string_view name,
                                std::string_view text) const;

  /// The same compilation as assembly text, for people and tests.
  StatusOr<std::string> assembly(std::string_view name,
                                 std::string_view text) const;

  const CpuTarget &target() const { return cpuTarget; }

  /// Everything besides the source that decides the bytes: compiler version,
  /// target, flags and device headers.
  const std::string &fingerprint() const { return identity; }

private:
  CpuTarget cpuTarget;
  std::vector<std::string> flags;
  std::string identity;
};

} // namespace lathe

#endif // LATHE_COMPILER_JIT_CLANGCOMPILER_H
