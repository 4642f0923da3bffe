#include "runtime/artifact/Plan.h"

namespace lathe {

int64_t PlannedState::byteSize(int64_t capacity) const {
  int64_t bytes = elementBytes * (kind == StateKind::Kv ? 2 * capacity : 1);
  for (int64_t dim : dims)
    bytes *= dim;
  return ring > 0 ? bytes / dims[0] * ring : bytes;
}

const PlannedStep *Plan::findStep(int64_t tokens) const {
  for (const PlannedStep &step : steps)
    if (step.tokens == tokens)
      return &step;
  return nullptr;
}

const PlannedEntry *Plan::find(std::string_view function,
                               int64_t tokens) const {
  const PlannedEntry *prefill = nullptr;
  for (const PlannedEntry &entry : entries) {
    if (entry.function != function)
      continue;
    if (!entry.prefill && entry.tokens == tokens)
      return &entry;
    if (entry.prefill && tokens <= entry.tokens)
      prefill = &entry;
  }
  return prefill;
}

int64_t Plan::maxTokens(std::string_view function) const {
  int64_t most = 0;
  for (const PlannedEntry &entry : entries)
    if (entry.function == function && entry.tokens > most)
      most = entry.tokens;
  return most;
}

} // namespace lathe
