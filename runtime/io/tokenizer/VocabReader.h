//===- VocabReader.h - the fast path through tokenizer.json -----*- C++ -*-===//
//
// A tokenizer.json is a small tree with two huge members, model.vocab and
// model.merges. The reader streams these two into flat arrays and builds a
// tree of the rest only: a tree of everything would cost a second and a
// quadratic search for duplicate keys.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_TOKENIZER_VOCABREADER_H
#define LATHE_RUNTIME_IO_TOKENIZER_VOCABREADER_H

#include "runtime/io/Json.h"
#include "runtime/io/tokenizer/TokenizerFile.h"

namespace lathe {

/// Parses `json` into the vocabulary and merges of `file` and puts
/// everything else into `rest`, where the two members are left as empty
/// containers. Checks syntax, types and id ranges; repeated tokens or ids are
/// for the caller to find.
/// REQUIRES: `file.name` is set and the arrays are empty.
Status readTokenizerJson(std::string_view json, TokenizerFile &file,
                         Json &rest);

} // namespace lathe

#endif // LATHE_RUNTIME_IO_TOKENIZER_VOCABREADER_H
