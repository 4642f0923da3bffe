//===- TextStream.h - printing text while it is generated -------*- C++ -*-===//
//
// Turns ids into text as they arrive. What push() and flush() return, put
// together, is Tokenizer::decode() of the ids, cut before the first stop
// string. Text is held back only while it may change:
//
//   - bytes of a code point that is not complete yet,
//   - text that may turn out to be the beginning of a stop string.
//
// The first stop string is the one that is complete first, and among those the
// one that began first, so the result does not depend on where tokens end.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_TOKENIZER_TEXTSTREAM_H
#define LATHE_RUNTIME_IO_TOKENIZER_TEXTSTREAM_H

#include "runtime/io/tokenizer/Tokenizer.h"

namespace lathe {

struct TextStreamOptions {
  /// Generated text that ends the stream; it is not printed.
  std::vector<std::string> stops;
  /// Whether control tokens are printed.
  bool printSpecial = false;
};

/// One stream of generated text. Not thread-safe.
class TextStream {
public:
  /// Keeps a reference to `tokenizer`. A stop string that is empty or invalid
  /// UTF-8 is a usageError.
  static StatusOr<TextStream> create(const Tokenizer &tokenizer,
                                     TextStreamOptions options = {});

  /// Takes the next id and returns the text that can be printed now; nothing
  /// once a stop string was found.
  std::string push(int32_t id);

  /// Ends the text: returns what was held back, with U+FFFD for an incomplete
  /// code point. Call it once, last.
  std::string flush();

  /// Whether a stop string was found.
  bool stopped() const { return isStopped; }

private:
  TextStream(const Tokenizer &tokenizer, TextStreamOptions options);

  /// Moves from `held` what is certain to be printed.
  std::string release();

  const Tokenizer *tokenizer;
  TextStreamOptions options;
  std::string partial; ///< the beginning of a code point
  std::string held;    ///< whole code points
  bool isStopped = false;
};

} // namespace lathe

#endif // LATHE_RUNTIME_IO_TOKENIZER_TEXTSTREAM_H
