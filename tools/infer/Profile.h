//===- Profile.h - what a plan for another GPU promises ---------*- C++ -*-===//
//
// A plan made with --profile keeps the limits of a GPU that is not at hand and
// fills as many multiprocessors as that one has. From what its kernels take on
// so many multiprocessors of the GPU at hand follows a projection. Pure.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TOOLS_INFER_PROFILE_H
#define LATHE_TOOLS_INFER_PROFILE_H

#include "runtime/artifact/Plan.h"

#include <string>
#include <vector>

namespace lathe::cli {

/// The memory bandwidth that is projected to: that of an RTX 5060 Ti.
inline constexpr double kProjectedBandwidth = 448e9;

/// The most that a decode kernel of a plan asks for.
struct ProfileUse {
  int dynamicShared = 0; ///< bytes, of a block
  int warps = 0;         ///< of a block
};
ProfileUse profileUse(const Plan &plan);

/// A stage of a step: all calls of one kernel.
struct ProfileStage {
  std::string kernel;
  int calls = 0;
  double bytes = 0;   ///< that a call has to move
  double seconds = 0; ///< of a call, back to back
  double empty = 0;   ///< of empty launches of the same shape
};

/// A step of some tokens, measured on the profile's multiprocessors.
struct ProfileStep {
  int64_t tokens = 1, depth = 0;
  double seconds = 0; ///< the whole step
  std::vector<ProfileStage> stages{};

  double bytes() const;
  /// Bytes per second over the whole step.
  double sustained() const { return bytes() / seconds; }
};

/// Seconds that a step takes on `cards` cards of `bandwidth` each: every stage
/// as long as its multiprocessors needed or its bytes need, whichever is
/// longer, and what the stages do not cover. Each of several cards has its
/// part of the bytes and of the work, launches in full, and pays nothing for
/// talking to the others.
double projectedSeconds(const ProfileStep &step, double bandwidth, int cards);

/// What a report says.
struct ProfileReport {
  std::string device; ///< the GPU at hand
  int deviceSms = 0;  ///< its multiprocessors
  PlannedProfile profile;
  ProfileUse use;
  double readable = 0; ///< bytes per second that the profile's SMs can read
  std::vector<ProfileStep> steps{};
};

/// Markdown; with `ledger` every kernel too.
std::string profileText(const ProfileReport &report, bool ledger);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_PROFILE_H
