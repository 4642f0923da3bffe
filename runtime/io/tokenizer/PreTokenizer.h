//===- PreTokenizer.h - cutting text into pieces ----------------*- C++ -*-===//
//
// Merges never cross a piece. Each step cuts every piece of the step before:
// a Split isolates the matches of its pattern, the final ByteLevel may put a
// space in front and cut by the GPT-2 pattern.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_TOKENIZER_PRETOKENIZER_H
#define LATHE_RUNTIME_IO_TOKENIZER_PRETOKENIZER_H

#include "runtime/io/tokenizer/Regex.h"
#include "runtime/io/tokenizer/TokenizerFile.h"

#include <functional>
#include <vector>

namespace lathe {

/// Immutable and thread-safe.
class PreTokenizer {
public:
  using Visit = std::function<void(std::string_view piece)>;

  static StatusOr<PreTokenizer>
  create(const std::vector<PreTokenizerStep> &steps);

  /// Calls `visit` for each non-empty piece of `text`, in order.
  /// REQUIRES: `text` is valid UTF-8.
  Status split(std::string_view text, RegexScratch &scratch,
               const Visit &visit) const;

private:
  /// The final step has a regex only if it cuts.
  struct Step {
    std::optional<Regex> regex;
    bool addPrefixSpace = false;
  };

  Status apply(size_t step, std::string_view text, RegexScratch &scratch,
               const Visit &visit) const;

  std::vector<Step> steps;
};

} // namespace lathe

#endif // LATHE_RUNTIME_IO_TOKENIZER_PRETOKENIZER_H
