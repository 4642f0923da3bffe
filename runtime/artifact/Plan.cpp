#include "runtime/artifact/Plan.h"

#include "runtime/base/KernelAbi.h"

namespace lathe {

int64_t PlannedState::byteSize(int64_t capacity) const {
  int64_t bytes = elementBytes * (kind == StateKind::Kv ? 2 * capacity : 1);
  for (int64_t dim : dims)
    bytes *= dim;
  if (kind == StateKind::Conv && ring > 0)
    return bytes / dims[0] * ring;
  if (kind == StateKind::Recurrent)
    bytes += ring * 2 * elementBytes *
             ((dims[0] + LATHE_LANES - 1) / LATHE_LANES * LATHE_LANES);
  return bytes;
}

const PlannedStep *Plan::findStep(int64_t tokens) const {
  for (const PlannedStep &step : steps)
    if (step.tokens == tokens)
      return &step;
  return nullptr;
}

const PlannedEntry *Plan::find(std::string_view function, int64_t tokens,
                               bool preferPrefill) const {
  const PlannedEntry *prefill = nullptr, *decode = nullptr;
  for (const PlannedEntry &entry : entries) {
    if (entry.function != function)
      continue;
    if (!entry.prefill && entry.tokens == tokens)
      decode = &entry;
    if (entry.prefill && tokens <= entry.tokens)
      prefill = &entry;
  }
  return decode && !(preferPrefill && prefill) ? decode : prefill;
}

int64_t Plan::maxTokens(std::string_view function) const {
  int64_t most = 0;
  for (const PlannedEntry &entry : entries)
    if (entry.function == function && entry.tokens > most)
      most = entry.tokens;
  return most;
}

} // namespace lathe
