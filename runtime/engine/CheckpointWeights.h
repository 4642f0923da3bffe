//===- CheckpointWeights.h - the parameters of a checkpoint -----*- C++ -*-===//

#ifndef LATHE_RUNTIME_ENGINE_CHECKPOINTWEIGHTS_H
#define LATHE_RUNTIME_ENGINE_CHECKPOINTWEIGHTS_H

#include "runtime/io/Checkpoint.h"
#include "runtime/memory/WeightSource.h"

#include <memory>

namespace lathe {

/// The parameters of a checkpoint, which must outlive the result. Thread-safe.
std::unique_ptr<WeightSource> weightsOf(const Checkpoint &checkpoint);

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_CHECKPOINTWEIGHTS_H
