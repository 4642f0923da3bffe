//===- Utf8.h - validating, repairing and normalising UTF-8 -----*- C++ -*-===//
//
// UTF-8 as the Unicode standard defines it: no overlong forms, no surrogates,
// nothing above U+10FFFF. Repairing replaces each maximal subpart of an
// ill-formed sequence by one U+FFFD, as browsers and the Hugging Face decoders
// do.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_TOKENIZER_UTF8_H
#define LATHE_RUNTIME_IO_TOKENIZER_UTF8_H

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lathe {

/// The byte offset of the first ill-formed sequence, or nothing if `text` is
/// valid UTF-8.
std::optional<size_t> findInvalidUtf8(std::string_view text);

/// Appends the valid form of `bytes` to `out` and returns how many bytes were
/// consumed. A sequence that `bytes` merely cuts short at its end is left
/// unconsumed (at most 3 bytes), or replaced like any other if `final`.
size_t appendValidUtf8(std::string &out, std::string_view bytes, bool final);

/// Decodes the code point at `at` and moves `at` behind it.
/// REQUIRES: `text` is valid UTF-8 and `at` is at the start of a code point.
char32_t nextCodePoint(std::string_view text, size_t &at);

/// Appends a Unicode scalar value.
void appendCodePoint(std::string &out, char32_t codePoint);

/// Returns `text` in normalisation form C, in time O(n log n) for any input.
/// REQUIRES: `text` is valid UTF-8.
std::string toNfc(std::string_view text);

} // namespace lathe

#endif // LATHE_RUNTIME_IO_TOKENIZER_UTF8_H
