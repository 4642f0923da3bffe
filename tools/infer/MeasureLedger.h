//===- MeasureLedger.h - times for a ledger ---------------------*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_MEASURELEDGER_H
#define LATHE_TOOLS_INFER_MEASURELEDGER_H

#include "tools/infer/Ledger.h"

#include "runtime/engine/CudaEngine.h"

namespace lathe::cli {

/// Measures a step of `tokens` with `depth` positions cached, launch by launch
/// whatever --entry says; `bandwidth` is the GPU's, measured in the same run.
/// Leaves the engine's states undefined. Takes seconds: the step is played from
/// its start to behind each of its launches. Errors: internalError when the
/// plan has no such step, the driver's.
StatusOr<Ledger> measureLedger(CudaEngine &engine, const Plan &plan,
                               int64_t tokens, int64_t depth, double bandwidth);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_MEASURELEDGER_H
