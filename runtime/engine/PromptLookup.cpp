#include "runtime/engine/PromptLookup.h"

namespace lathe {

PromptLookup::PromptLookup(int64_t capacity) {
  text.reserve(size_t(capacity));
  three.reserve(size_t(capacity));
  two.reserve(size_t(capacity));
}

void PromptLookup::clear() {
  text.clear();
  three.clear();
  two.clear();
}

/// The tokens [end - length, end) as a number; ids have at most 21 bits.
uint64_t PromptLookup::key(int64_t end, int64_t length) const {
  uint64_t packed = 0;
  for (int64_t i = end - length; i < end; ++i)
    packed = packed << 21 | uint32_t(text[size_t(i)]);
  return packed;
}

void PromptLookup::append(std::span<const int32_t> tokens) {
  for (int32_t token : tokens) {
    const int64_t at = int64_t(text.size());
    if (at >= 2)
      two[key(at, 2)] = at;
    if (at >= 3)
      three[key(at, 3)] = at;
    text.push_back(token);
  }
}

std::span<const int32_t> PromptLookup::propose(int64_t count) {
  draft.clear();
  const int64_t end = int64_t(text.size());
  int64_t from = -1;
  for (auto [index, length] : {std::pair{&three, 3}, {&two, 2}}) {
    if (from >= 0 || end < length)
      continue;
    if (auto found = index->find(key(end, length)); found != index->end())
      from = found->second;
  }
  for (int64_t i = 0; from >= 0 && i < count; ++i)
    draft.push_back(from + i < end ? text[size_t(from + i)]
                                   : draft[size_t(from + i - end)]);
  return draft;
}

} // namespace lathe
