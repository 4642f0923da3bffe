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

/// "layers.3.mlp.gate_proj.weight": "gate_proj".
static std::string lastName(std::string name) {
  constexpr std::string_view kSuffix = ".weight";
  if (name.ends_with(kSuffix))
    name.resize(name.size() - kSuffix.size());
  return name.substr(name.rfind('.') + 1);
}

std::string readsOf(const Plan &plan, const PlannedLaunch &launch) {
  std::string text;
  auto add = [&](const std::string &name) {
    text += (text.empty() ? "" : ", ") + name;
  };
  for (const PlannedOperand &operand : launch.operands) {
    const size_t index = size_t(operand.value);
    if (operand.space == PlannedOperand::Space::Weight &&
        (plan.weights[index].layout == Layout::Tiles ||
         plan.weights[index].layout == Layout::Rows))
      add(lastName(plan.weights[index].name));
    if (operand.space == PlannedOperand::Space::State)
      add(plan.states[index].kind == StateKind::Kv     ? "KV cache"
          : plan.states[index].kind == StateKind::Conv ? "convolution state"
                                                       : "recurrent state");
  }
  return text;
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
