//===- LedgerTimeline.h - a step as an SVG ----------------------*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_LEDGERTIMELINE_H
#define LATHE_TOOLS_INFER_LEDGERTIMELINE_H

#include "tools/infer/Ledger.h"

namespace lathe::cli {

/// An inline SVG: every call of the step in order as a bar, as long as its
/// stage's calls take on average, in lines that follow each other. What its
/// bytes explain comes first in the bar, class "bytes"; the rest has the class
/// of its reason. Pure.
std::string ledgerTimeline(const Ledger &ledger);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_LEDGERTIMELINE_H
