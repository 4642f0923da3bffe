//===- PromptLookup.h - drafts out of the text so far -----------*- C++ -*-===//
//
// Text repeats itself: code, quotations, lists. What followed the last tokens
// when they stood there before is a draft that costs nothing.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_PROMPTLOOKUP_H
#define LATHE_RUNTIME_ENGINE_PROMPTLOOKUP_H

#include "absl/container/flat_hash_map.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lathe {

class PromptLookup {
public:
  /// Makes room for `capacity` tokens; more cost allocations.
  explicit PromptLookup(int64_t capacity);

  void clear();
  void append(std::span<const int32_t> tokens);

  /// The `count` tokens behind the latest earlier place where the last three
  /// tokens stood, or else the last two; past the end of the text the draft
  /// continues itself, as repeated text does. Empty when there is no such
  /// place. Valid until the next call.
  std::span<const int32_t> propose(int64_t count);

private:
  /// By the tokens before it: the latest position but the end.
  using Index = absl::flat_hash_map<uint64_t, int64_t>;

  uint64_t key(int64_t end, int64_t length) const;

  std::vector<int32_t> text, draft;
  Index three, two;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_PROMPTLOOKUP_H
