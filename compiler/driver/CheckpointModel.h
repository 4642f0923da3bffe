//===- CheckpointModel.h - a checkpoint as the driver sees it ---*- C++ -*-===//

#ifndef LATHE_COMPILER_DRIVER_CHECKPOINTMODEL_H
#define LATHE_COMPILER_DRIVER_CHECKPOINTMODEL_H

#include "compiler/driver/Compile.h"
#include "runtime/io/Checkpoint.h"

namespace lathe {

/// What the compiler asks of a checkpoint. `config` is the root of its
/// config.json; both must outlive the result. A shape that differs from the
/// config's is a modelError.
ModelInput inputOf(const Checkpoint &checkpoint, const JsonValue &config);

} // namespace lathe

#endif // LATHE_COMPILER_DRIVER_CHECKPOINTMODEL_H
