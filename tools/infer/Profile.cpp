#include "tools/infer/Profile.h"

#include "tools/infer/Numbers.h"

#include <algorithm>

namespace lathe::cli {

ProfileUse profileUse(const Plan &plan) {
  ProfileUse use;
  for (const PlannedEntry &entry : plan.entries)
    if (!entry.prefill)
      for (const PlannedLaunch &launch : entry.launches)
        for (const PlannedStage &stage :
             plan.kernels[size_t(launch.kernel)].stages) {
          use.dynamicShared = std::max(use.dynamicShared, stage.dynamicShared);
          use.warps = std::max(use.warps, (stage.threads + 31) / 32);
        }
  return use;
}

double ProfileStep::bytes() const {
  double sum = 0;
  for (const ProfileStage &stage : stages)
    sum += stage.calls * stage.bytes;
  return sum;
}

double projectedSeconds(const ProfileStep &step, double bandwidth, int cards) {
  double sum = 0, measured = 0;
  for (const ProfileStage &stage : step.stages) {
    const double launch = std::min(stage.empty, stage.seconds);
    const double work = launch + (stage.seconds - launch) / cards;
    sum += stage.calls * std::max(work, stage.bytes / cards / bandwidth);
    measured += stage.calls * stage.seconds;
  }
  return sum + std::max(step.seconds - measured, 0.0);
}

namespace {

std::string giga(double bytesPerSecond) {
  return fixed(bytesPerSecond / 1e9, 0);
}

std::string header(const ProfileReport &report) {
  const std::string sms = std::to_string(report.profile.sms);
  return "Profile " + report.profile.arch + ": kernels planned for " + sms +
         " multiprocessors; decode kernels ask for at most " +
         fixed(report.use.dynamicShared / 1024.0, 1) +
         " KB of shared memory and " + std::to_string(report.use.warps) +
         " warps a block.\n"
         "They ran on exactly " +
         sms + " of the " + std::to_string(report.deviceSms) +
         " multiprocessors of a " + report.device +
         ", the others being held, and no more blocks shared one than can on "
         "the profile's. These " +
         sms + " can read " + giga(report.readable) + " GB/s.\n";
}

std::string stepTable(const ProfileReport &report) {
  std::string text =
      "| step | ms | GB | sustained GB/s | tok/s here | projected: one card | "
      "limit by bytes | projected: two cards |\n"
      "|---|---:|---:|---:|---:|---:|---:|---:|\n";
  for (const ProfileStep &step : report.steps) {
    auto rate = [&](double seconds) {
      return fixed(double(step.tokens) / seconds, 1);
    };
    text += "| T = " + std::to_string(step.tokens) + " at " +
            std::to_string(step.depth) + " | " + fixed(1e3 * step.seconds, 3) +
            " | " + fixed(step.bytes() / 1e9, 3) + " | " +
            giga(step.sustained()) + " | " + rate(step.seconds) + " | " +
            rate(projectedSeconds(step, kProjectedBandwidth, 1)) + " | " +
            rate(step.bytes() / kProjectedBandwidth) + " | " +
            rate(projectedSeconds(step, kProjectedBandwidth, 2)) + " |\n";
  }
  return text;
}

std::string stageTable(const ProfileStep &step) {
  std::string text =
      "\nT = " + std::to_string(step.tokens) +
      ", each kernel by itself\n\n"
      "| kernel | calls | MB | us | empty | GB/s | us of its "
      "bytes at 448 GB/s |\n|---|---:|---:|---:|---:|---:|---:|\n";
  for (const ProfileStage &stage : step.stages)
    text += "| " + stage.kernel + " | " + std::to_string(stage.calls) + " | " +
            fixed(stage.bytes / 1e6, 2) + " | " +
            fixed(1e6 * stage.seconds, 1) + " | " +
            fixed(1e6 * stage.empty, 1) + " | " +
            giga(stage.bytes / stage.seconds) + " | " +
            fixed(1e6 * stage.bytes / kProjectedBandwidth, 1) + " |\n";
  return text;
}

} // namespace

std::string profileText(const ProfileReport &report, bool ledger) {
  std::string text =
      header(report) + "\n" + stepTable(report) +
      "\nProjected tok/s are a projection, not a measurement: of each kernel "
      "the longer of the time measured here and that of its bytes at 448 GB/s "
      "a card. Clocks, caches and memory latency are those of the GPU at hand. "
      "Two cards: half of the bytes and of the work each, launches in full, "
      "nothing for talking to each other.\n";
  if (ledger)
    for (const ProfileStep &step : report.steps)
      text += stageTable(step);
  return text;
}

} // namespace lathe::cli
