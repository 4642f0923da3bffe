//===- PlanJson.h - a plan as JSON text -------------------------*- C++ -*-===//
//
// What a bundle stores. The text has every field of the plan and nothing else:
//
//   {"target": "sm_90",
//    "kernels": [{"name", "shared_bytes", "bytes_per_position", "local_bytes",
//                 "stages": [...]}],
//    "weights": [{"name", "layout", "format", "rows", "cols", "group",
//                 "asymmetric", "shape"}],
//    "states": [{"name", "kind", "dims", "element_bytes", "ring"}],
//    "entries": [{"function", "tokens", "prefill", "arena_bytes",
//                 "inputs": [width], "outputs": [width],
//                 "launches": [[kernel, "arena", 0, "weight", 3, ...]]}]}
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ARTIFACT_PLANJSON_H
#define LATHE_RUNTIME_ARTIFACT_PLANJSON_H

#include "runtime/artifact/Plan.h"
#include "runtime/base/Status.h"

#include <string>
#include <string_view>

namespace lathe {

/// The plan as text for people, too: a launch is a line. planFromJson() gives
/// the same plan back.
std::string planToJson(const Plan &plan);

/// Reads such a text. modelError "<file>: <field>: expected ..., found ..."
/// when a field is missing, unknown or out of its range, or when checkPlan()
/// refuses the plan.
StatusOr<Plan> planFromJson(std::string_view text, const std::string &file);

/// Whether an executor may follow the plan without looking twice: names are
/// symbols, kernels are unique, sizes are positive and do not overflow, and
/// every operand of every launch points at something that the plan has.
/// modelError "<field>: ..." otherwise.
Status checkPlan(const Plan &plan);

} // namespace lathe

#endif // LATHE_RUNTIME_ARTIFACT_PLANJSON_H
