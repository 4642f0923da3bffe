//===- CodeWriter.h - indented text -----------------------------*- C++ -*-===//

#ifndef LATHE_COMPILER_EMIT_CODEWRITER_H
#define LATHE_COMPILER_EMIT_CODEWRITER_H

#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/Twine.h"

#include <string>

namespace lathe {

/// Collects lines, each indented by the depth of the open blocks.
class CodeWriter {
public:
  void line(const llvm::Twine &text) {
    out.append(2 * size_t(depth), ' ');
    out += text.str();
    out += '\n';
  }
  void open(const llvm::Twine &text) {
    line(text);
    ++depth;
  }
  void close(const llvm::Twine &text = "}") {
    --depth;
    line(text);
  }
  /// Adds whole lines, indented by the current depth.
  void paste(llvm::StringRef lines) {
    while (!lines.empty()) {
      auto [first, rest] = lines.split('\n');
      line(first);
      lines = rest;
    }
  }
  std::string take() { return std::move(out); }

private:
  std::string out;
  int depth = 0;
};

/// A C++ float literal with the value of `value` rounded to float.
std::string floatLiteral(double value);

} // namespace lathe

#endif // LATHE_COMPILER_EMIT_CODEWRITER_H
