#include "tools/infer/StepBytes.h"

#include "runtime/memory/WeightStore.h"

namespace lathe::cli {

double launchBytes(const Plan &plan, const PlannedLaunch &launch,
                   int64_t depth) {
  double bytes = 0;
  for (const PlannedOperand &operand : launch.operands) {
    const size_t index = size_t(operand.value);
    if (operand.space == PlannedOperand::Space::Weight &&
        plan.weights[index].layout != Layout::Rows)
      bytes += double(residentBytes(plan.weights[index], plan.target));
    if (operand.space != PlannedOperand::Space::State)
      continue;
    const PlannedState &state = plan.states[index];
    if (state.kind == StateKind::Kv)
      bytes += double(state.byteSize(depth));
    else if (state.kind == StateKind::Recurrent)
      bytes += 2.0 * double(state.byteSize(0));
  }
  return bytes;
}

double stepBytes(const Plan &plan, int64_t tokens, int64_t depth) {
  double bytes = 0;
  for (const char *function : {"trunk", "head"})
    if (const PlannedEntry *entry = plan.find(function, tokens))
      for (const PlannedLaunch &launch : entry->launches)
        bytes += launchBytes(plan, launch, depth);
  return bytes;
}

} // namespace lathe::cli
