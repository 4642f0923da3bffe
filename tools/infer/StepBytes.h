//===- StepBytes.h - what a step has to move --------------------*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_STEPBYTES_H
#define LATHE_TOOLS_INFER_STEPBYTES_H

#include "runtime/artifact/Plan.h"

#include <string>

namespace lathe::cli {

/// Bytes that one launch's operands must move with `depth` positions cached:
/// weights and the cache once, recurrent states there and back.
double launchBytes(const Plan &plan, const PlannedLaunch &launch,
                   int64_t depth);

/// The weights and states that a launch reads, for people.
std::string readsOf(const Plan &plan, const PlannedLaunch &launch);

/// Bytes of a whole step of `tokens`, trunk and head.
double stepBytes(const Plan &plan, int64_t tokens, int64_t depth);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_STEPBYTES_H
