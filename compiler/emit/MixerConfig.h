//===- MixerConfig.h - the Cfg structs of mixer kernels ---------*- C++ -*-===//
//
// Delta and attention kernels take their shape from a printed struct of
// constants, the same for both targets. Private to compiler/emit.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_COMPILER_EMIT_MIXERCONFIG_H
#define LATHE_COMPILER_EMIT_MIXERCONFIG_H

#include "compiler/emit/CodeWriter.h"
#include "ir/kernel/KernelMatch.h"

namespace lathe {

/// `static constexpr` members of `struct Cfg`; closes it when destroyed.
class ConfigPrinter {
public:
  explicit ConfigPrinter(CodeWriter &code) : code(code) {
    code.open("struct Cfg {");
  }
  ~ConfigPrinter() { code.close("};"); }
  void add(llvm::StringRef name, int64_t value);
  void add(llvm::StringRef name, double value);
  void flag(llvm::StringRef name, bool value);
  /// An int by an expression.
  void expression(llvm::StringRef name, const llvm::Twine &text);
  void raw(const llvm::Twine &text) { code.line(text); }

private:
  CodeWriter &code;
};

void addDelta(ConfigPrinter &config, DeltaMatch &match);
/// `kv` is the element type of the cache.
void addAttention(ConfigPrinter &config, AttentionMatch &match,
                  llvm::StringRef kv);

} // namespace lathe

#endif // LATHE_COMPILER_EMIT_MIXERCONFIG_H
