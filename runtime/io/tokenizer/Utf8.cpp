#include "runtime/io/tokenizer/Utf8.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace lathe {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

enum class Form { Valid, Invalid, CutShort };

/// A maximal subpart: its form and its length in bytes.
struct Sequence {
  Form form;
  size_t length;
};

/// Classifies what starts at `at`. Only the second byte's range depends on the
/// first: that is where overlong forms, surrogates and too large values show.
Sequence classify(std::string_view s, size_t at) {
  uint8_t lead = uint8_t(s[at]);
  if (lead < 0x80)
    return {Form::Valid, 1};
  if (lead < 0xC2 || lead > 0xF4)
    return {Form::Invalid, 1};
  size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < length; ++i) {
    if (at + i == s.size())
      return {Form::CutShort, i};
    uint8_t byte = uint8_t(s[at + i]);
    if (byte < low || byte > high)
      return {Form::Invalid, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Form::Valid, length};
}

/// The length of the ASCII run at `at`, in whole words.
size_t asciiWords(std::string_view s, size_t at) {
  size_t i = at;
  for (; i + 8 <= s.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, s.data() + i, 8);
    if (word & 0x8080808080808080)
      break;
  }
  return i - at;
}

uint8_t combiningClass(utf8proc_int32_t codePoint) {
  return uint8_t(utf8proc_get_property(codePoint)->combining_class);
}

/// Puts each run of combining marks into canonical order. utf8proc would do
/// this with a bubble sort, which a long run of marks makes quadratic.
void orderMarks(std::vector<utf8proc_int32_t> &points) {
  std::vector<uint64_t> run; // class, then place, then code point
  for (size_t i = 0; i < points.size(); ++i) {
    size_t begin = i;
    run.clear();
    for (; i < points.size() && combiningClass(points[i]) != 0; ++i)
      run.push_back(uint64_t(combiningClass(points[i])) << 56 |
                    uint64_t(i - begin) << 21 | uint64_t(points[i]));
    std::sort(run.begin(), run.end());
    for (size_t j = 0; j < run.size(); ++j)
      points[begin + j] = utf8proc_int32_t(run[j] & 0x1FFFFF);
  }
}

} // namespace

std::optional<size_t> findInvalidUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    at += asciiWords(text, at);
    if (at == text.size())
      break;
    Sequence sequence = classify(text, at);
    if (sequence.form != Form::Valid)
      return at;
    at += sequence.length;
  }
  return std::nullopt;
}

size_t appendValidUtf8(std::string &out, std::string_view bytes, bool final) {
  size_t at = 0;
  while (at < bytes.size()) {
    Sequence sequence = classify(bytes, at);
    if (sequence.form == Form::CutShort && !final)
      break;
    if (sequence.form == Form::Valid)
      out.append(bytes, at, sequence.length);
    else
      out += kReplacement;
    at += sequence.length;
  }
  return at;
}

char32_t nextCodePoint(std::string_view text, size_t &at) {
  uint8_t lead = uint8_t(text[at++]);
  if (lead < 0x80)
    return lead;
  int more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  char32_t point = lead & (0x3F >> more);
  while (more-- > 0)
    point = point << 6 | (uint8_t(text[at++]) & 0x3F);
  return point;
}

void appendCodePoint(std::string &out, char32_t codePoint) {
  utf8proc_uint8_t buffer[4];
  auto length = utf8proc_encode_char(utf8proc_int32_t(codePoint), buffer);
  out.append(reinterpret_cast<const char *>(buffer), size_t(length));
}

std::string toNfc(std::string_view text) {
  // Everything below U+0300, whose lead byte is 0xCC, is in form C already.
  if (std::none_of(text.begin(), text.end(),
                   [](char c) { return uint8_t(c) >= 0xCC; }))
    return std::string(text);

  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  constexpr int kLongestDecomposition = 32;
  utf8proc_int32_t buffer[kLongestDecomposition];
  for (size_t at = 0; at < text.size();) {
    auto count = utf8proc_decompose_char(
        utf8proc_int32_t(nextCodePoint(text, at)), buffer,
        kLongestDecomposition, UTF8PROC_DECOMPOSE, nullptr);
    points.insert(points.end(), buffer, buffer + count);
  }
  orderMarks(points);
  auto length = utf8proc_normalize_utf32(
      points.data(), utf8proc_ssize_t(points.size()),
      utf8proc_option_t(UTF8PROC_COMPOSE | UTF8PROC_STABLE));

  std::string out;
  out.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < length; ++i)
    appendCodePoint(out, char32_t(points[size_t(i)]));
  return out;
}

} // namespace lathe
