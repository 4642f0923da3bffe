//===- ByteLevel.h - bytes written as printable characters ------*- C++ -*-===//
//
// Byte-level vocabularies spell every byte as one printable character, so that
// a token is always valid text in the file: the bytes 0x21-0x7E, 0xA1-0xAC and
// 0xAE-0xFF stand for themselves as code points, and the other 68 bytes, in
// ascending order, are U+0100, U+0101, ... (a space is U+0120, "Ġ").
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_TOKENIZER_BYTELEVEL_H
#define LATHE_RUNTIME_IO_TOKENIZER_BYTELEVEL_H

#include <cstdint>
#include <string>
#include <string_view>

namespace lathe {

/// Appends the spelling of `bytes` to `out`.
void appendByteLevelSpelling(std::string &out, std::string_view bytes);

/// Appends the bytes that `spelling` stands for to `out` and returns true; a
/// spelling with any character outside the alphabet is appended unchanged and
/// gives false.
/// REQUIRES: `spelling` is valid UTF-8.
bool appendBytesOfSpelling(std::string &out, std::string_view spelling);

} // namespace lathe

#endif // LATHE_RUNTIME_IO_TOKENIZER_BYTELEVEL_H
