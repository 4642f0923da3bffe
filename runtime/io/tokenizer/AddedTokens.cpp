#include "runtime/io/tokenizer/AddedTokens.h"

#include "runtime/io/tokenizer/Utf8.h"

#include <algorithm>

namespace lathe {
namespace {

bool isWhiteSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/// The start of the code point that ends at `end`.
size_t previousCodePoint(std::string_view text, size_t end) {
  do
    --end;
  while ((uint8_t(text[end]) & 0xC0) == 0x80);
  return end;
}

size_t skipSpaceBack(std::string_view text, size_t end) {
  while (end > 0) {
    size_t begin = previousCodePoint(text, end), at = begin;
    if (!isWhiteSpace(nextCodePoint(text, at)))
      break;
    end = begin;
  }
  return end;
}

size_t skipSpace(std::string_view text, size_t begin) {
  for (size_t at = begin; begin < text.size(); begin = at)
    if (!isWhiteSpace(nextCodePoint(text, at)))
      break;
  return begin;
}

} // namespace

StatusOr<AddedTokens> AddedTokens::create(std::vector<AddedToken> tokens) {
  AddedTokens result;
  result.tokens = std::move(tokens);
  result.tokenAt.push_back(-1);
  for (size_t i = 0; i < result.tokens.size(); ++i)
    result.insert(i);
  LATHE_ASSIGN_OR_RETURN(
      result.word,
      Regex::compile(R"(\A[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}])",
                     "word character"));
  return result;
}

void AddedTokens::insert(size_t index) {
  const std::string &content = tokens[index].content;
  begins[uint8_t(content[0])] = true;
  uint32_t node = 0;
  for (char byte : content) {
    auto [child, isNew] = children.try_emplace(
        uint64_t(node) << 8 | uint8_t(byte), uint32_t(tokenAt.size()));
    if (isNew)
      tokenAt.push_back(-1);
    node = child->second;
  }
  tokenAt[node] = int32_t(index);
}

std::optional<AddedTokens::Match> AddedTokens::find(std::string_view text,
                                                    size_t from) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!begins[uint8_t(text[begin])])
      continue;
    Match best;
    uint32_t node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      auto child = children.find(uint64_t(node) << 8 | uint8_t(text[at]));
      if (child == children.end())
        break;
      node = child->second;
      if (tokenAt[node] >= 0)
        best = {&tokens[size_t(tokenAt[node])], {begin, at + 1}};
    }
    if (best.token)
      return best;
  }
  return std::nullopt;
}

StatusOr<bool> AddedTokens::touchesWord(std::string_view text, ByteRange range,
                                        RegexScratch &scratch) const {
  if (range.begin > 0) {
    std::string_view before =
        text.substr(previousCodePoint(text, range.begin),
                    range.begin - previousCodePoint(text, range.begin));
    LATHE_ASSIGN_OR_RETURN(auto match, word->find(before, 0, scratch));
    if (match)
      return true;
  }
  LATHE_ASSIGN_OR_RETURN(auto match,
                         word->find(text.substr(range.end), 0, scratch));
  return match.has_value();
}

StatusOr<std::vector<Segment>> AddedTokens::split(std::string_view text,
                                                  bool parseSpecial,
                                                  RegexScratch &scratch) const {
  std::vector<Segment> segments;
  size_t done = 0;
  size_t from = 0;
  while (auto match = find(text, from)) {
    from = match->range.end;
    const AddedToken &token = *match->token;
    if (token.special && !parseSpecial)
      continue;
    if (token.singleWord) {
      LATHE_ASSIGN_OR_RETURN(bool touches,
                             touchesWord(text, match->range, scratch));
      if (touches)
        continue;
    }
    auto [begin, end] = match->range;
    if (token.lstrip)
      begin = std::max(skipSpaceBack(text, begin), done);
    if (token.rstrip)
      end = skipSpace(text, end);
    if (done < begin)
      segments.push_back({text.substr(done, begin - done)});
    segments.push_back({{}, token.id});
    done = end;
  }
  if (done < text.size())
    segments.push_back({text.substr(done)});
  return segments;
}

} // namespace lathe
