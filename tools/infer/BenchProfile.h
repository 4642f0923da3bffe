//===- BenchProfile.h - infer bench --profile -------------------*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_BENCHPROFILE_H
#define LATHE_TOOLS_INFER_BENCHPROFILE_H

#include "tools/infer/LoadedModel.h"

namespace lathe::cli {

/// Runs the decode steps of a plan made for another GPU on as many
/// multiprocessors as that one has, and prints what they sustain and what that
/// projects to (Profile.h). Errors: usageError when there is no GPU, the GPU
/// has fewer multiprocessors, or a bundle was compiled for another profile.
Status benchProfile(const BenchOptions &options, LoadedModel &model);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_BENCHPROFILE_H
