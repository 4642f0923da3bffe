//===- Regex.h - the pre-tokeniser's regular expressions --------*- C++ -*-===//
//
// tokenizer.json holds patterns in the syntax of Oniguruma. Regex compiles the
// part of it that means the same in PCRE2, and refuses the rest:
//
//   \s, \S             become \p{White_Space} and its complement, because
//                      PCRE2's own \s also takes U+180E
//   \w \b \h \v ...    refused: the engines disagree about them
//   [a[b]] and [a&&b]  refused: PCRE2 has no nested sets or intersections
//
// Properties such as \p{L} are those of the Unicode version that PCRE2 knows,
// 14 in PCRE2 10.42: a letter of a later version is not a letter here.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_TOKENIZER_REGEX_H
#define LATHE_RUNTIME_IO_TOKENIZER_REGEX_H

#include "runtime/base/Status.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace lathe {

/// A half-open range of bytes.
struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
};

/// What one thread needs to match. Not thread-safe; serves any Regex.
class RegexScratch {
public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch &) = delete;
  RegexScratch &operator=(const RegexScratch &) = delete;

private:
  friend class Regex;
  struct State;
  std::unique_ptr<State> state;
};

/// A compiled pattern. Immutable and thread-safe.
class Regex {
public:
  /// Compiles `pattern`. `field` names the place it came from in errors, which
  /// are modelErrors that give the offset in the pattern.
  static StatusOr<Regex> compile(std::string_view pattern,
                                 std::string_view field);
  /// As `compile`, for a pattern in which no character is special.
  static StatusOr<Regex> literal(std::string_view text, std::string_view field);

  Regex(Regex &&) noexcept;
  Regex &operator=(Regex &&) noexcept;
  ~Regex();

  /// The first match in `subject` that begins at `from` or later; nothing if
  /// there is none. Fails when matching exceeds its limits of steps and memory.
  /// REQUIRES: `subject` is valid UTF-8 and `from` a code point boundary.
  StatusOr<std::optional<ByteRange>> find(std::string_view subject, size_t from,
                                          RegexScratch &scratch) const;

private:
  struct Code;
  explicit Regex(std::unique_ptr<Code> code);
  static StatusOr<Regex> compilePcre(std::string_view pattern,
                                     std::string_view field, bool isLiteral);
  std::unique_ptr<Code> code;
};

} // namespace lathe

#endif // LATHE_RUNTIME_IO_TOKENIZER_REGEX_H
