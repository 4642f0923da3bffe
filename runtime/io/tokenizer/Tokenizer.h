//===- Tokenizer.h - text to token ids and back -----------------*- C++ -*-===//
//
// A byte-level BPE tokenizer as a Hugging Face tokenizer.json describes it. The
// ids agree with those of the `tokenizers` package. TokenizerFile.h lists what
// such a file may contain.
//
// Text from users must not be able to write control tokens: unless asked to,
// encode() reads "<|im_start|>" as ordinary text. Added tokens that the file
// does not mark as special, such as "<think>", are always recognised.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_TOKENIZER_TOKENIZER_H
#define LATHE_RUNTIME_IO_TOKENIZER_TOKENIZER_H

#include "runtime/base/Status.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

struct EncodeOptions {
  /// Whether special tokens in the text become control tokens.
  bool parseSpecial = false;
};

/// Move-only. Const methods are thread-safe.
class Tokenizer {
public:
  /// Reads the tokenizer.json at `path`. Anything wrong with it is a
  /// modelError that names the file and the field.
  static StatusOr<Tokenizer> load(const std::string &path);
  /// As load(), from the file's content; errors call the file `fileName`.
  static StatusOr<Tokenizer> parse(std::string_view json,
                                   std::string_view fileName);

  Tokenizer(Tokenizer &&) noexcept;
  Tokenizer &operator=(Tokenizer &&) noexcept;
  ~Tokenizer();

  /// The ids of `text`; nothing is added at either end. Invalid UTF-8, and
  /// text over 1 GiB, are usageErrors; text on which the file's regex exceeds
  /// its limits is a modelError.
  StatusOr<std::vector<int32_t>> encode(std::string_view text,
                                        EncodeOptions options = {}) const;

  /// The text of `ids`. Ill-formed UTF-8 becomes U+FFFD and ids without a
  /// token become nothing. TextStream does this step by step.
  std::string decode(std::span<const int32_t> ids, bool skipSpecial) const;

  /// The bytes that `id` adds to the text: often not UTF-8 on their own. Empty
  /// for an id without a token. Valid while the tokenizer lives.
  std::string_view bytesOf(int32_t id) const;

  /// The highest id + 1. Models may have more rows than that: ids from here on
  /// are padding, to be masked before sampling.
  int32_t vocabSize() const;

  /// Whether `id` is a control token, which users do not see.
  bool isSpecial(int32_t id) const;

  /// The id of a token as the file spells it, such as "<|im_end|>" or "Ġthe".
  std::optional<int32_t> idOf(std::string_view token) const;

private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

} // namespace lathe

#endif // LATHE_RUNTIME_IO_TOKENIZER_TOKENIZER_H
