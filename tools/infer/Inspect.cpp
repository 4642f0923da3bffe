//===- Inspect.cpp - infer inspect: what is in a bundle -------------------===//

#include "tools/infer/Verbs.h"

#include "runtime/artifact/Bundle.h"
#include "runtime/memory/WeightStore.h"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <map>

namespace lathe::cli {

using Json = nlohmann::ordered_json;

namespace {
/// How often a kernel runs, and what it reads, in one decode step.
struct PerStep {
  int launches = 0;
  int64_t weightBytes = 0;
};
} // namespace

static std::map<int32_t, PerStep> stepOf(const Plan &plan) {
  std::map<int32_t, PerStep> steps;
  for (const char *function : {"trunk", "head"}) {
    const PlannedEntry *entry = plan.find(function, 1);
    if (!entry || entry->prefill)
      continue;
    for (const PlannedLaunch &launch : entry->launches) {
      PerStep &step = steps[launch.kernel];
      ++step.launches;
      for (const PlannedOperand &operand : launch.operands)
        if (operand.space == PlannedOperand::Space::Weight) {
          const PlannedWeight &weight = plan.weights[size_t(operand.value)];
          if (weight.layout != Layout::Rows)
            step.weightBytes += residentBytes(weight, plan.target);
        }
    }
  }
  return steps;
}

static Json describe(const BundleTarget &target) {
  Json json{{"target", target.arch}};
  const auto steps = stepOf(target.plan);
  int launches = 0;
  for (size_t i = 0; i < target.plan.kernels.size(); ++i) {
    const PlannedKernel &kernel = target.plan.kernels[i];
    Json entry{{"name", kernel.name},
               {"cubin_bytes", target.images.at(kernel.name).size()},
               {"workspace_bytes", kernel.sharedBytes}};
    if (auto step = steps.find(int32_t(i)); step != steps.end()) {
      entry["launches_per_step"] = step->second.launches;
      entry["weight_bytes_per_step"] = step->second.weightBytes;
      launches += step->second.launches * int(kernel.stages.size());
    }
    for (const PlannedStage &stage : kernel.stages)
      entry["entries"].push_back({{"name", stage.entry},
                                  {"blocks", stage.blocks},
                                  {"threads", stage.threads},
                                  {"registers", stage.registers},
                                  {"spill_bytes", stage.spillBytes},
                                  {"shared_bytes", stage.dynamicShared}});
    json["kernels"].push_back(entry);
  }
  json["launches_per_step"] = launches;
  return json;
}

static void printTable(const Json &target) {
  std::printf("\n%s: %d launches per decode step\n\n",
              target["target"].get<std::string>().c_str(),
              target["launches_per_step"].get<int>());
  std::printf("| entry | per step | MB per step | blocks | threads | registers "
              "| spilled B | shared B |\n"
              "|---|---:|---:|---:|---:|---:|---:|---:|\n");
  for (const Json &kernel : target["kernels"])
    for (const Json &entry : kernel["entries"])
      std::printf(
          "| %s | %d | %.2f | %d | %d | %d | %d | %d |\n",
          entry["name"].get<std::string>().c_str(),
          kernel.value("launches_per_step", 0),
          double(kernel.value("weight_bytes_per_step", int64_t(0))) / 1e6,
          entry["blocks"].get<int>(), entry["threads"].get<int>(),
          entry["registers"].get<int>(), entry["spill_bytes"].get<int>(),
          entry["shared_bytes"].get<int>());
}

Status inspect(const InspectOptions &options) {
  if (!isBundle(options.bundle))
    return modelError(options.bundle +
                      ": not a bundle, which is a directory that infer compile "
                      "makes");
  LATHE_ASSIGN_OR_RETURN(Bundle bundle, readBundle(options.bundle, nullptr));
  Json json{{"schema_version", kBundleSchema},
            {"lathe_version", bundle.latheVersion},
            {"model",
             {{"path", bundle.model.path},
              {"hash", bundle.model.hash},
              {"model_type", bundle.model.modelType}}},
            {"context", bundle.context}};
  for (const BundleTarget &target : bundle.targets)
    json["targets"].push_back(describe(target));
  if (options.json) {
    std::printf("%s\n", json.dump(2).c_str());
    return absl::OkStatus();
  }
  std::printf("%s %s\nhash %s\ncontext up to %lld, made by Lathe %s\n",
              bundle.model.modelType.c_str(), bundle.model.path.c_str(),
              bundle.model.hash.c_str(), static_cast<long long>(bundle.context),
              bundle.latheVersion.c_str());
  for (const Json &target : json["targets"])
    printTable(target);
  return absl::OkStatus();
}

} // namespace lathe::cli
