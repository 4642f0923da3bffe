//===- DraftHeadWeights.h - the draft head, made while loading --*- C++ -*-===//
//
// Drafts choose from fewer tokens, by a coarser head than the model's. No
// checkpoint has it: its rows are those of the head, rounded when they are
// read.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ENGINE_DRAFTHEADWEIGHTS_H
#define LATHE_RUNTIME_ENGINE_DRAFTHEADWEIGHTS_H

#include "runtime/artifact/Plan.h"
#include "runtime/memory/WeightSource.h"

#include <memory>

namespace lathe {

/// `source` with the weights called "<name>.draft" that `plan` has: row i is
/// row ids[i] of <name>. Both must outlive the result, which is thread-safe.
std::unique_ptr<WeightSource>
withDraftHead(WeightSource &source, const Plan &plan, std::vector<int32_t> ids);

} // namespace lathe

#endif // LATHE_RUNTIME_ENGINE_DRAFTHEADWEIGHTS_H
