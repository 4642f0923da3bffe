//===- LedgerTimeline.h - a step as an SVG ----------------------*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_LEDGERTIMELINE_H
#define LATHE_TOOLS_INFER_LEDGERTIMELINE_H

#include "tools/infer/Ledger.h"

namespace lathe::cli {

/// An inline SVG: every call of the step in order as a bar, as long as its
/// stage's calls take on average, in lines that follow each other. What its
/// bytes explain comes first in the bar, class "bytes"; the rest has the class
/// of its reason. Wide bars have their stage's mark. Pure.
std::string ledgerTimeline(const Ledger &ledger);

/// What stands for stage number `stage` there: "A", "B", ...
std::string stageMark(size_t stage);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_LEDGERTIMELINE_H
