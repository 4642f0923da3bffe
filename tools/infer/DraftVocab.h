//===- DraftVocab.h - which tokens drafts may propose -----------*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_DRAFTVOCAB_H
#define LATHE_TOOLS_INFER_DRAFTVOCAB_H

#include "tools/infer/Verbs.h"

#include "runtime/io/tokenizer/Tokenizer.h"

#include <optional>
#include <vector>

namespace lathe::cli {

/// What --draft-vocab says.
struct DraftVocab {
  int64_t size = -1;        ///< -1: the compiler decides by cost
  std::vector<int32_t> ids; ///< of a file that says which, else empty
};
StatusOr<DraftVocab> parseDraftVocab(const std::string &option);

/// The token of each of `rows` rows of a draft head: those of the option's
/// file, or else the first ids, which merges made first and text has most, and
/// every control token. `tokenizer` may be null.
std::vector<int32_t> draftIds(const DraftVocab &vocab, int64_t rows,
                              const Tokenizer *tokenizer);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_DRAFTVOCAB_H
