#include "tools/infer/BenchProfile.h"

#include "runtime/base/CudaTarget.h"
#include "tools/infer/Profile.h"
#include "tools/infer/StepBytes.h"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <map>

namespace lathe::cli {

using Json = nlohmann::ordered_json;

Status checkProfile(const ModelOptions &options) {
  if (options.profile.empty())
    return absl::OkStatus();
  if (Status status = profileLimits(options.profile).status(); !status.ok())
    return usageError("--profile: " + messageOf(status));
  if (options.entry != "launches")
    return usageError("--profile: expected --entry launches, found " +
                      options.entry);
  return absl::OkStatus();
}

Status checkProfile(const ModelOptions &options, const PlannedProfile &found) {
  const std::string &wanted = options.profile;
  const int sms = options.profileSms;
  if (wanted.empty() ||
      (found.arch == wanted && (sms == 0 || found.sms == sms)))
    return absl::OkStatus();
  return usageError(
      "--profile: this bundle was compiled for " +
      (found.arch.empty() ? "no profile"
                          : found.arch + " with " + std::to_string(found.sms) +
                                " multiprocessors") +
      "; make one with infer compile --profile " + wanted + " --sms " +
      std::to_string(sms > 0 ? sms : profileLimits(wanted)->defaultSms));
}

/// Every kernel of a step, its calls back to back.
static Status addStages(CudaEngine &engine, const Plan &plan,
                        ProfileStep &step) {
  constexpr int kRepetitions = 10;
  for (const char *function : {"trunk", "head"}) {
    const PlannedEntry &entry = *plan.find(function, step.tokens);
    std::map<int32_t, ProfileStage> stages;
    for (const PlannedLaunch &launch : entry.launches) {
      ProfileStage &stage = stages[launch.kernel];
      ++stage.calls;
      stage.bytes = launchBytes(plan, launch, step.depth);
    }
    for (auto &[kernel, stage] : stages) {
      stage.kernel = plan.kernels[size_t(kernel)].name;
      for (bool empty : {false, true}) {
        LATHE_ASSIGN_OR_RETURN(
            auto timing,
            engine.time(function, step.tokens, kernel,
                        {.repetitions = kRepetitions, .empty = empty}));
        (empty ? stage.empty : stage.seconds) = timing.seconds / stage.calls;
      }
      step.stages.push_back(stage);
    }
  }
  return absl::OkStatus();
}

static StatusOr<ProfileStep> measureStep(CudaEngine &engine, const Plan &plan,
                                         int64_t tokens, int64_t depth) {
  constexpr int kRepetitions = 20;
  engine.skipTo(depth);
  ProfileStep step{tokens, depth};
  LATHE_ASSIGN_OR_RETURN(auto timing, engine.timeStep(tokens, kRepetitions));
  step.seconds = timing.seconds;
  LATHE_RETURN_IF_ERROR(addStages(engine, plan, step));
  return step;
}

static Json toJson(const ProfileReport &report) {
  Json json{{"schema_version", 1},
            {"device", report.device},
            {"profile", report.profile.arch},
            {"multiprocessors", report.profile.sms},
            {"most_shared_bytes", report.use.dynamicShared},
            {"most_warps", report.use.warps},
            {"readable_bytes_s", report.readable},
            {"results", Json::array()}};
  for (const ProfileStep &step : report.steps) {
    Json row{
        {"tokens", step.tokens},
        {"depth", step.depth},
        {"ms", 1e3 * step.seconds},
        {"bytes", step.bytes()},
        {"sustained_bytes_s", step.sustained()},
        {"projection",
         {{"bandwidth_bytes_s", kProjectedBandwidth},
          {"ms_one_card", 1e3 * projectedSeconds(step, kProjectedBandwidth, 1)},
          {"ms_two_cards",
           1e3 * projectedSeconds(step, kProjectedBandwidth, 2)}}}};
    for (const ProfileStage &stage : step.stages)
      row["kernels"].push_back({{"kernel", stage.kernel},
                                {"calls", stage.calls},
                                {"mb_per_call", stage.bytes / 1e6},
                                {"us_per_call", 1e6 * stage.seconds},
                                {"us_empty", 1e6 * stage.empty}});
    json["results"].push_back(row);
  }
  return json;
}

Status benchProfile(const BenchOptions &options, LoadedModel &model) {
  if (!model.cudaEngine)
    return usageError("--profile: needs a GPU to run on");
  CudaEngine &engine = *model.cudaEngine;
  const Plan &plan = model.compiled->plan;
  ProfileReport report{model.device, engine.context().device().sms,
                       plan.profile, profileUse(plan)};
  // Once with all multiprocessors, so that everything is loaded.
  for (int64_t tokens : options.stepTokens)
    LATHE_RETURN_IF_ERROR(engine.timeStep(tokens, 1).status());
  LATHE_RETURN_IF_ERROR(engine.readBandwidth().status());
  for (int64_t depth : options.depths)
    for (int64_t tokens : options.stepTokens) {
      LATHE_ASSIGN_OR_RETURN(std::unique_ptr<SmHold> hold,
                             engine.hold(plan.profile.sms));
      LATHE_ASSIGN_OR_RETURN(report.readable, engine.readBandwidth());
      LATHE_ASSIGN_OR_RETURN(ProfileStep step,
                             measureStep(engine, plan, tokens, depth));
      LATHE_RETURN_IF_ERROR(hold->check());
      report.steps.push_back(std::move(step));
    }
  const std::string text = options.json ? toJson(report).dump(2) + "\n"
                                        : profileText(report, options.ledger);
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

} // namespace lathe::cli
