#include "runtime/artifact/PlanJson.h"

#include "runtime/base/CudaTarget.h"

#include <algorithm>
#include <set>

namespace lathe {
namespace {

/// Bounds that no model comes near; with them, sizes in bytes fit in 63 bits
/// even after they are multiplied by a context.
constexpr int64_t kMaxElements = int64_t(1) << 40;
constexpr int64_t kMaxBytes = int64_t(1) << 50;
constexpr int32_t kMaxThreads = 1024;

std::string at(std::string_view list, size_t index) {
  return std::string(list) + "[" + std::to_string(index) + "]";
}

Status wrong(const std::string &field, std::string_view expected,
             std::string_view found) {
  return modelError(field + ": expected " + std::string(expected) + ", found " +
                    std::string(found));
}

Status wrong(const std::string &field, std::string_view expected,
             int64_t found) {
  return wrong(field, expected, std::to_string(found));
}

Status checkSymbol(const std::string &field, const std::string &name) {
  auto isWord = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '_';
  };
  if (!name.empty() && name.size() <= 200 &&
      !(name[0] >= '0' && name[0] <= '9') &&
      std::all_of(name.begin(), name.end(), isWord))
    return absl::OkStatus();
  return wrong(field, "a symbol", "\"" + name.substr(0, 60) + "\"");
}

Status checkBytes(const std::string &field, int64_t bytes) {
  if (bytes >= 0 && bytes <= kMaxBytes)
    return absl::OkStatus();
  return wrong(field, "bytes", bytes);
}

/// The dimensions are positive and their product is below kMaxElements.
Status checkDims(const std::string &field, const std::vector<int64_t> &dims) {
  int64_t elements = 1;
  for (int64_t dim : dims) {
    if (dim < 1 || dim > kMaxElements / elements)
      return wrong(field, "positive dimensions of a tensor", dim);
    elements *= dim;
  }
  return absl::OkStatus();
}

Status checkStage(const std::string &field, const PlannedStage &stage) {
  LATHE_RETURN_IF_ERROR(checkSymbol(field + ".entry", stage.entry));
  if (stage.threads < 1 || stage.threads > kMaxThreads)
    return wrong(field + ".threads", "1 to 1024", stage.threads);
  if (stage.blocks < 1)
    return wrong(field + ".blocks", "at least 1", stage.blocks);
  if (stage.tokensPerBlock < 0)
    return wrong(field + ".tokens_per_block", "at least 0",
                 stage.tokensPerBlock);
  if (stage.grain < 0 || (stage.grain > 0 && stage.blocks % stage.grain != 0))
    return wrong(field + ".grain", "a divisor of blocks, or 0", stage.grain);
  return checkBytes(field + ".dynamic_shared", stage.dynamicShared);
}

Status checkProfile(const PlannedProfile &profile) {
  if (profile.arch.empty())
    return absl::OkStatus();
  if (!parseCudaTarget(profile.arch).ok())
    return wrong("profile.arch", "a CUDA architecture", profile.arch);
  if (profile.sms < 1)
    return wrong("profile.sms", "at least 1", profile.sms);
  return absl::OkStatus();
}

Status checkKernels(const Plan &plan) {
  const bool isCpu = plan.target == "cpu";
  std::set<std::string_view> names;
  for (size_t i = 0; i < plan.kernels.size(); ++i) {
    const PlannedKernel &kernel = plan.kernels[i];
    const std::string field = at("kernels", i);
    LATHE_RETURN_IF_ERROR(checkSymbol(field + ".name", kernel.name));
    if (!names.insert(kernel.name).second)
      return wrong(field + ".name", "a name of its own", kernel.name);
    LATHE_RETURN_IF_ERROR(
        checkBytes(field + ".shared_bytes", kernel.sharedBytes));
    LATHE_RETURN_IF_ERROR(
        checkBytes(field + ".bytes_per_position", kernel.bytesPerPosition));
    LATHE_RETURN_IF_ERROR(
        checkBytes(field + ".local_bytes", kernel.localBytes));
    if (kernel.stages.empty() != isCpu)
      return wrong(field + ".stages",
                   isCpu ? "none for the CPU" : "at least one",
                   int64_t(kernel.stages.size()));
    for (size_t j = 0; j < kernel.stages.size(); ++j)
      LATHE_RETURN_IF_ERROR(
          checkStage(at(field + ".stages", j), kernel.stages[j]));
  }
  return absl::OkStatus();
}

Status checkMatrix(const std::string &field, const WeightDesc &desc) {
  LATHE_RETURN_IF_ERROR(checkDims(field + ".rows", {desc.rows, desc.cols}));
  const bool isInt4 = desc.format == WeightFormat::Int4;
  const bool isNvFp4 = desc.format == WeightFormat::NvFp4;
  const bool groups = isInt4    ? desc.group > 0 && desc.cols % desc.group == 0
                      : isNvFp4 ? desc.group == 16 && desc.cols % 16 == 0
                                : desc.group == 0;
  if (!groups)
    return wrong(field + ".group", "a group that fits the format", desc.group);
  if (desc.asymmetric && !isInt4)
    return wrong(field + ".asymmetric", "false unless int4", "true");
  return absl::OkStatus();
}

Status checkWeight(const std::string &field, const PlannedWeight &weight) {
  if (weight.name.empty())
    return wrong(field + ".name", "a name", "\"\"");
  if (weight.layout == Layout::Rows || weight.layout == Layout::Tiles)
    return checkMatrix(field, weight.desc);
  size_t least = weight.layout == Layout::Transposed ? 2 : 1;
  if (weight.shape.size() < least)
    return wrong(field + ".shape",
                 "at least " + std::to_string(least) + " dimensions",
                 int64_t(weight.shape.size()));
  return checkDims(field + ".shape", weight.shape);
}

Status checkState(const std::string &field, const PlannedState &state) {
  const size_t rank = state.kind == StateKind::Recurrent ? 3 : 2;
  if (state.dims.size() != rank)
    return wrong(field + ".dims", std::to_string(rank) + " dimensions",
                 int64_t(state.dims.size()));
  LATHE_RETURN_IF_ERROR(checkDims(field + ".dims", state.dims));
  const int32_t bytes = state.elementBytes;
  if (bytes != 4 &&
      !(state.kind == StateKind::Kv && (bytes == 1 || bytes == 2)))
    return wrong(field + ".element_bytes", "4, or 1 or 2 of a kv", bytes);
  const bool conv = state.kind == StateKind::Conv;
  if (state.ring != 0 &&
      (state.kind == StateKind::Kv || state.ring < (conv ? state.dims[0] : 1) ||
       state.ring > kMaxElements / state.dims[conv ? 1 : 0]))
    return wrong(field + ".ring",
                 "0, or of a conv no less than its steps, or a positive count "
                 "of a recurrent",
                 state.ring);
  return absl::OkStatus();
}

Status checkOperand(const std::string &field, const PlannedOperand &operand,
                    const Plan &plan, const PlannedEntry &entry) {
  auto below = [&](int64_t limit, const char *what) {
    if (operand.value >= 0 && operand.value < limit)
      return Status();
    return wrong(field, std::string(what) + " below " + std::to_string(limit),
                 operand.value);
  };
  switch (operand.space) {
  case PlannedOperand::Space::Arena:
    return below(entry.arenaBytes, "an offset in the arena");
  case PlannedOperand::Space::Weight:
    return below(int64_t(plan.weights.size()), "a weight");
  case PlannedOperand::Space::State:
    return below(int64_t(plan.states.size()), "a state");
  case PlannedOperand::Space::Input:
    return below(int64_t(entry.inputs.size()), "an input");
  case PlannedOperand::Space::Output:
    return below(int64_t(entry.outputs.size()), "an output");
  }
  return wrong(field, "a space", int64_t(operand.space));
}

Status checkIos(const std::string &field, const std::vector<PlannedIo> &ios) {
  for (size_t i = 0; i < ios.size(); ++i)
    if (ios[i].width < 0 || ios[i].width > kMaxElements)
      return wrong(at(field, i), "a width", ios[i].width);
  return absl::OkStatus();
}

Status checkEntry(const std::string &field, const Plan &plan,
                  const PlannedEntry &entry) {
  LATHE_RETURN_IF_ERROR(checkSymbol(field + ".function", entry.function));
  if (entry.tokens < 1 || entry.tokens > kMaxElements)
    return wrong(field + ".tokens", "a positive count", entry.tokens);
  LATHE_RETURN_IF_ERROR(checkBytes(field + ".arena_bytes", entry.arenaBytes));
  LATHE_RETURN_IF_ERROR(checkIos(field + ".inputs", entry.inputs));
  LATHE_RETURN_IF_ERROR(checkIos(field + ".outputs", entry.outputs));
  for (size_t i = 0; i < entry.launches.size(); ++i) {
    const PlannedLaunch &launch = entry.launches[i];
    const std::string where = at(field + ".launches", i);
    if (launch.kernel < 0 || size_t(launch.kernel) >= plan.kernels.size())
      return wrong(where,
                   "a kernel below " + std::to_string(plan.kernels.size()),
                   launch.kernel);
    for (size_t j = 0; j < launch.operands.size(); ++j)
      LATHE_RETURN_IF_ERROR(checkOperand(at(where + ".operands", j),
                                         launch.operands[j], plan, entry));
  }
  return absl::OkStatus();
}

Status checkStep(const std::string &field, const Plan &plan,
                 const PlannedStep &step) {
  auto isKernel = [&](int32_t kernel) {
    return kernel >= 0 && size_t(kernel) < plan.kernels.size();
  };
  if (!plan.find("trunk", step.tokens) || !plan.find("head", step.tokens))
    return wrong(field + ".tokens", "those of a trunk and a head", step.tokens);
  if (!isKernel(step.kernel) ||
      plan.kernels[size_t(step.kernel)].stages.size() != 1)
    return wrong(field + ".kernel", "a kernel of one stage", step.kernel);
  for (size_t i = 0; i < step.covers.size(); ++i)
    if (!isKernel(step.covers[i]) ||
        (i > 0 && step.covers[i] <= step.covers[i - 1]))
      return wrong(at(field + ".covers", i), "kernels in ascending order",
                   step.covers[i]);
  return absl::OkStatus();
}

} // namespace

Status checkPlan(const Plan &plan) {
  LATHE_RETURN_IF_ERROR(checkSymbol("target", plan.target));
  LATHE_RETURN_IF_ERROR(checkProfile(plan.profile));
  LATHE_RETURN_IF_ERROR(checkKernels(plan));
  for (size_t i = 0; i < plan.weights.size(); ++i)
    LATHE_RETURN_IF_ERROR(checkWeight(at("weights", i), plan.weights[i]));
  for (size_t i = 0; i < plan.states.size(); ++i)
    LATHE_RETURN_IF_ERROR(checkState(at("states", i), plan.states[i]));
  for (size_t i = 0; i < plan.entries.size(); ++i)
    LATHE_RETURN_IF_ERROR(checkEntry(at("entries", i), plan, plan.entries[i]));
  for (size_t i = 0; i < plan.steps.size(); ++i)
    LATHE_RETURN_IF_ERROR(checkStep(at("steps", i), plan, plan.steps[i]));
  return absl::OkStatus();
}

} // namespace lathe
