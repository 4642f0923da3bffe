//===- LedgerPage.h - the ledger as one HTML page ---------------*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_LEDGERPAGE_H
#define LATHE_TOOLS_INFER_LEDGERPAGE_H

#include "tools/infer/Ledger.h"

#include <span>
#include <string_view>

namespace lathe::cli {

/// A page that needs nothing but itself, no script, light or dark as the reader
/// has it: of each ledger a summary, the three largest losses in words, a
/// timeline of the step and the table. Pure.
std::string ledgerPage(std::span<const Ledger> ledgers);

/// `text` for HTML text and attributes.
std::string escapeHtml(std::string_view text);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_LEDGERPAGE_H
