//===- BenchProfile.h - infer bench --profile -------------------*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_BENCHPROFILE_H
#define LATHE_TOOLS_INFER_BENCHPROFILE_H

#include "tools/infer/LoadedModel.h"

namespace lathe::cli {

/// OK when a bundle's plan was made for the profile that the options ask for,
/// or they ask for none; else a usageError that says how to make one.
Status checkProfile(const ModelOptions &options, const PlannedProfile &found);

/// Runs the decode steps of a plan made for another GPU on as many
/// multiprocessors as that one has, and prints what they sustain and what that
/// projects to (Profile.h). Errors: usageError when there is no GPU, or it has
/// fewer multiprocessors; those of SmHold. REQUIRES: the plan's profile is the
/// options'.
Status benchProfile(const BenchOptions &options, LoadedModel &model);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_BENCHPROFILE_H
