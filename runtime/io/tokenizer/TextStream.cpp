#include "runtime/io/tokenizer/TextStream.h"

#include "runtime/io/tokenizer/Utf8.h"

#include <algorithm>

namespace lathe {
namespace {

/// The length of the longest end of `text` that `stop` begins with, short of
/// all of `stop`.
size_t overlap(std::string_view text, std::string_view stop) {
  size_t length = std::min(text.size(), stop.size() - 1);
  while (length > 0 && !text.ends_with(stop.substr(0, length)))
    --length;
  return length;
}

} // namespace

StatusOr<TextStream> TextStream::create(const Tokenizer &tokenizer,
                                        TextStreamOptions options) {
  for (const std::string &stop : options.stops)
    if (stop.empty() || findInvalidUtf8(stop))
      return usageError("a stop string is " +
                        std::string(stop.empty() ? "empty" : "invalid UTF-8"));
  return TextStream(tokenizer, std::move(options));
}

TextStream::TextStream(const Tokenizer &tokenizer, TextStreamOptions options)
    : tokenizer(&tokenizer), options(std::move(options)) {}

std::string TextStream::push(int32_t id) {
  if (isStopped || (!options.printSpecial && tokenizer->isSpecial(id)))
    return {};
  partial += tokenizer->bytesOf(id);
  partial.erase(0, appendValidUtf8(held, partial, /*final=*/false));
  return release();
}

std::string TextStream::flush() {
  if (isStopped)
    return {};
  appendValidUtf8(held, partial, /*final=*/true);
  partial.clear();
  std::string text = release();
  if (!isStopped)
    text += held;
  held.clear();
  return text;
}

std::string TextStream::release() {
  size_t stopBegin = std::string::npos, stopEnd = std::string::npos;
  size_t kept = 0;
  for (const std::string &stop : options.stops) {
    kept = std::max(kept, overlap(held, stop));
    size_t begin = held.find(stop);
    if (begin == std::string::npos)
      continue;
    size_t end = begin + stop.size();
    if (end < stopEnd || (end == stopEnd && begin < stopBegin)) {
      stopBegin = begin;
      stopEnd = end;
    }
  }
  isStopped = stopEnd != std::string::npos;
  size_t certain = isStopped ? stopBegin : held.size() - kept;
  std::string text = held.substr(0, certain);
  held.erase(0, certain);
  return text;
}

} // namespace lathe
