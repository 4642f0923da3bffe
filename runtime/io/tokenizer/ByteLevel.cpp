#include "runtime/io/tokenizer/ByteLevel.h"

#include "runtime/io/tokenizer/Utf8.h"

#include <array>

namespace lathe {
namespace {

constexpr bool isPrintable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
         (byte >= 0xAE && byte <= 0xFF);
}

struct Alphabet {
  std::array<char16_t, 256> characterOf{};
  std::array<int16_t, 256 + 68> byteOf{};
};

constexpr Alphabet makeAlphabet() {
  Alphabet alphabet;
  for (auto &byte : alphabet.byteOf)
    byte = -1;
  char16_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    char16_t character = isPrintable(byte) ? char16_t(byte) : next++;
    alphabet.characterOf[size_t(byte)] = character;
    alphabet.byteOf[character] = int16_t(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = makeAlphabet();

} // namespace

void appendByteLevelSpelling(std::string &out, std::string_view bytes) {
  for (char byte : bytes)
    appendCodePoint(out, kAlphabet.characterOf[uint8_t(byte)]);
}

bool appendBytesOfSpelling(std::string &out, std::string_view spelling) {
  size_t before = out.size();
  for (size_t at = 0; at < spelling.size();) {
    char32_t character = nextCodePoint(spelling, at);
    int byte = character < kAlphabet.byteOf.size()
                   ? kAlphabet.byteOf[size_t(character)]
                   : -1;
    if (byte < 0) {
      out.resize(before);
      out += spelling;
      return false;
    }
    out += char(byte);
  }
  return true;
}

} // namespace lathe
