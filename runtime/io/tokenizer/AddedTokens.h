//===- AddedTokens.h - tokens that are found in raw text --------*- C++ -*-===//
//
// Finds the tokens of one set in a text: leftmost first, the longest of those
// that begin there, never overlapping. The options of a token apply afterwards
// and do not change what is found: a match that single_word, or the caller,
// turns down is passed over as a whole, and lstrip and rstrip let a token
// swallow white space. This is what the Hugging Face package does.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_TOKENIZER_ADDEDTOKENS_H
#define LATHE_RUNTIME_IO_TOKENIZER_ADDEDTOKENS_H

#include "runtime/io/tokenizer/Regex.h"
#include "runtime/io/tokenizer/TokenizerFile.h"

#include "absl/container/flat_hash_map.h"

#include <array>
#include <vector>

namespace lathe {

/// A stretch of text, or an added token in its place.
struct Segment {
  std::string_view text;
  int32_t id = -1; ///< -1 for text
};

/// Immutable and thread-safe.
class AddedTokens {
public:
  /// `tokens` are matched by their `content`, which must not be empty.
  static StatusOr<AddedTokens> create(std::vector<AddedToken> tokens);

  /// Cuts `text` into segments without empty texts. With `parseSpecial` off,
  /// special tokens stay text.
  /// REQUIRES: `text` is valid UTF-8.
  StatusOr<std::vector<Segment>> split(std::string_view text, bool parseSpecial,
                                       RegexScratch &scratch) const;

private:
  struct Match {
    const AddedToken *token = nullptr;
    ByteRange range;
  };

  void insert(size_t index);
  std::optional<Match> find(std::string_view text, size_t from) const;
  StatusOr<bool> touchesWord(std::string_view text, ByteRange range,
                             RegexScratch &scratch) const;

  std::vector<AddedToken> tokens;
  /// A trie: (node << 8 | byte) -> node; tokenAt is an index or -1 per node.
  absl::flat_hash_map<uint64_t, uint32_t> children;
  std::vector<int32_t> tokenAt;
  std::array<bool, 256> begins{};
  std::optional<Regex> word;
};

} // namespace lathe

#endif // LATHE_RUNTIME_IO_TOKENIZER_ADDEDTOKENS_H
