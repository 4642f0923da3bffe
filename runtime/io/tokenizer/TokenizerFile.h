//===- TokenizerFile.h - the content of a tokenizer.json --------*- C++ -*-===//
//
// tokenizer.json as plain data, checked field by field but not yet indexed.
// Supported, as TokenizerFile.cpp lists in its errors:
//
//   model          BPE; no dropout, byte fallback, prefix or suffix
//   normalizer     none, NFC, or a Sequence of these
//   pre_tokenizer  ByteLevel, or a Sequence of Splits that ends in ByteLevel;
//                  Split only with the behaviour Isolated
//   decoder        ByteLevel, or a Sequence of just that
//
// truncation and padding are training-time settings and ignored. So is
// post_processor: chat templates and callers add what it would add.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_TOKENIZER_TOKENIZERFILE_H
#define LATHE_RUNTIME_IO_TOKENIZER_TOKENIZERFILE_H

#include "runtime/base/Status.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

/// The highest id a token may have; tables are indexed by id.
inline constexpr int32_t kMaxTokenId = (1 << 22) - 1;

/// A token that is found in text before the model sees it.
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false;    ///< control token, hidden in decoded text
  bool lstrip = false;     ///< also takes the white space before it
  bool rstrip = false;     ///< also takes the white space behind it
  bool singleWord = false; ///< only between non-word characters
  bool normalized = false; ///< is looked for in the normalised text
};

/// One step of cutting text into pieces.
struct PreTokenizerStep {
  enum class Kind { SplitRegex, SplitLiteral, ByteLevel };
  Kind kind = Kind::ByteLevel;
  std::string pattern;         ///< of a Split
  bool addPrefixSpace = false; ///< of a ByteLevel
  bool useRegex = false;       ///< of a ByteLevel: cut by the GPT-2 pattern
  std::string field;           ///< file and field, for errors
};

struct TokenizerFile {
  /// A piece of `text` or `mergeText`.
  struct Span {
    uint32_t offset = 0;
    uint32_t length = 0;
  };
  struct VocabEntry {
    Span token;
    int32_t id = 0;
  };
  struct Merge {
    Span left, right;
  };

  std::string name; ///< the file's name, for errors
  std::string text; ///< the tokens of `vocab`
  std::vector<VocabEntry> vocab;
  std::string mergeText;     ///< the tokens of `merges`
  std::vector<Merge> merges; ///< best first
  std::vector<AddedToken> addedTokens;
  std::vector<PreTokenizerStep> steps; ///< the last, and only it, is ByteLevel
  std::optional<std::string> unknownToken;
  bool fuseUnknown = false;
  bool ignoreMerges = false; ///< a piece that is a token is never merged
  bool nfc = false;

  static std::string_view view(std::string_view text, Span span) {
    return text.substr(span.offset, span.length);
  }

  /// Reads `json`; `name` is used in errors, which are modelErrors.
  static StatusOr<TokenizerFile> parse(std::string_view json,
                                       std::string_view name);
};

/// `token` quoted for an error message, shortened if it is long.
std::string quoteToken(std::string_view token);

} // namespace lathe

#endif // LATHE_RUNTIME_IO_TOKENIZER_TOKENIZERFILE_H
