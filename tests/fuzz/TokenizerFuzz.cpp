//===- TokenizerFuzz.cpp - hostile tokenizer.json files and texts ---------===//
//
// Up to its first NUL the input is a tokenizer.json; what follows is a text.
// Whatever the file accepts must encode, and a stream must print what decode()
// returns.
//
//===----------------------------------------------------------------------===//

#include "runtime/io/tokenizer/TextStream.h"
#include "runtime/io/tokenizer/Tokenizer.h"
#include "runtime/io/tokenizer/Utf8.h"

using namespace lathe;

static void check(bool condition) {
  if (!condition)
    __builtin_trap();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view input(reinterpret_cast<const char *>(data), size);
  size_t end = input.find('\0');
  auto tokenizer = Tokenizer::parse(input.substr(0, end), "tokenizer.json");
  if (!tokenizer.ok())
    return 0;
  std::string text;
  if (end != input.npos)
    appendValidUtf8(text, input.substr(end + 1), /*final=*/true);
  for (bool special : {false, true}) {
    auto ids = tokenizer->encode(text, {.parseSpecial = special});
    if (!ids.ok())
      continue; // a regex over its limits
    auto stream = TextStream::create(*tokenizer, {.printSpecial = special});
    std::string printed;
    for (int32_t id : *ids) {
      check(id >= 0 && id < tokenizer->vocabSize());
      printed += stream->push(id);
    }
    printed += stream->flush();
    check(printed == tokenizer->decode(*ids, !special));
    check(!findInvalidUtf8(printed));
  }
  return 0;
}
