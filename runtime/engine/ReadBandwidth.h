//===- ReadBandwidth.h - how fast this machine reads memory -----*- C++ -*-===//

#ifndef LATHE_RUNTIME_ENGINE_READBANDWIDTH_H
#define LATHE_RUNTIME_ENGINE_READBANDWIDTH_H

#include "runtime/base/Status.h"
#include "runtime/engine/ThreadTeam.h"

namespace lathe {

/// Bytes per second at which the team reads a buffer far larger than any
/// cache: the best of several passes, each thread over its own part.
StatusOr<double> measureReadBandwidth(ThreadTeam &team);

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_READBANDWIDTH_H
