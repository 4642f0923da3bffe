#include "tools/infer/LedgerPage.h"

#include "tools/infer/LedgerTimeline.h"
#include "tools/infer/Numbers.h"

namespace lathe::cli {

namespace {

constexpr size_t kLosses = 3;

constexpr char kHead[] = R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Ledger of a decode step</title>
<style>
:root { color-scheme: light dark;
  --text: #1d2230; --soft: #5d6475; --line: #d9dce4; --back: #ffffff;
  --panel: #f5f6f9; --bytes: #2f5d9b; --weights: #8fb3e0;
  --activations: #e3a23c; --arithmetic: #9a74c9; --launch: #c9604f; }
@media (prefers-color-scheme: dark) { :root {
  --text: #e4e7ee; --soft: #9aa2b4; --line: #363c4a; --back: #14171d;
  --panel: #1c2029; --bytes: #5b93dd; --weights: #35507a;
  --activations: #b98129; --arithmetic: #7f5cb0; --launch: #b0503f; } }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.25rem;
  background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
.soft { color: var(--soft); }
dl.facts { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0; }
dl.facts div { background: var(--panel); border-radius: 6px;
  padding: .5rem .9rem; }
dl.facts dt { color: var(--soft); font-size: .8rem; }
dl.facts dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; width: 100%;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child, .left { text-align: left; }
td:first-child { white-space: normal; min-width: 13rem; }
ul.key { list-style: none; display: flex; flex-wrap: wrap; gap: .35rem 1.2rem;
  padding: 0; margin: .5rem 0; font-size: .85rem; }
ul.key svg { vertical-align: -1px; margin-right: .4rem; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg text.mark { fill: #fff; font-weight: 600; }
.bytes { fill: var(--bytes); } .weights { fill: var(--weights); }
.activations { fill: var(--activations); }
.arithmetic { fill: var(--arithmetic); } .launch { fill: var(--launch); }
.edge { stroke: var(--back); stroke-width: .6; }
.axis { stroke: var(--line); }
ol li { margin: .5rem 0; }
</style>
</head>
<body>
)";

std::string micro(double seconds, int digits = 1) {
  return fixed(1e6 * seconds, digits);
}

std::string cell(const std::string &text, const char *attribute = "") {
  return std::string("<td") + attribute + ">" + text + "</td>";
}

std::string fact(const std::string &name, const std::string &value) {
  return "<div><dt>" + escapeHtml(name) + "</dt><dd>" + escapeHtml(value) +
         "</dd></div>\n";
}

std::string titleOf(const LedgerStage &stage) {
  return stage.what.empty() ? stage.kernel : stage.what;
}

std::string summary(const Ledger &ledger) {
  const double seconds = ledger.measured;
  const double limit = ledger.bytes() / ledger.bandwidth;
  return "<dl class=\"facts\">\n" +
         fact("step", fixed(1e3 * seconds, 3) + " ms") +
         fact("tokens per second", fixed(double(ledger.tokens) / seconds, 1)) +
         fact("bytes", fixed(ledger.bytes() / 1e9, 3) + " GB") +
         fact("read bandwidth, same run",
              fixed(ledger.bandwidth / 1e9, 0) + " GB/s") +
         fact("limit by bytes", fixed(1e3 * limit, 3) + " ms") +
         fact("of the limit", fixed(100 * limit / seconds, 1) + " %") +
         fact("stages add up to", fixed(1e3 * ledger.seconds(), 3) + " ms") +
         fact("launches", std::to_string(ledger.launches())) + "</dl>\n";
}

std::string losses(const Ledger &ledger) {
  std::string text = "<h3>The largest losses</h3>\n<ol>\n";
  for (size_t index : largestLosses(ledger, kLosses)) {
    const LedgerStage &stage = ledger.stages[index];
    const Explanation why = explain(stage, ledger.bandwidth);
    text +=
        "<li><strong>" + stageMark(index) + " " + escapeHtml(titleOf(stage)) +
        "</strong> (" + escapeHtml(stage.kernel) +
        "): " + micro(stage.calls * why.loss, 0) +
        " µs per step over the byte limit, " + micro(why.loss) +
        " µs in each of " + std::to_string(stage.calls) + " calls, of which " +
        micro(why.parts[int(why.stall)]) + " µs are " + nameOf(why.stall) +
        ". " + meaningOf(why.stall) + "</li>\n";
  }
  return text + "</ol>\n";
}

std::string key() {
  auto entry = [](const char *name, const char *text) {
    return std::string("<li><svg width=\"12\" height=\"12\"><rect width=\"12\" "
                       "height=\"12\" class=\"") +
           name + "\"/></svg>" + text + "</li>\n";
  };
  return "<ul class=\"key\">\n" +
         entry("bytes", "its bytes at the read bandwidth") +
         entry("weights", "beyond that: waits for weights") +
         entry("activations", "waits for activations") +
         entry("arithmetic", "arithmetic") + entry("launch", "launch") +
         "</ul>\n";
}

std::string row(const Ledger &ledger, size_t index) {
  const LedgerStage &stage = ledger.stages[index];
  const Explanation why = explain(stage, ledger.bandwidth);
  std::string text =
      "<tr>" +
      cell("<strong>" + stageMark(index) + "</strong> " +
           escapeHtml(titleOf(stage)) + "<br><span class=\"soft\">" +
           escapeHtml(stage.section + ", " + stage.kernel) + "</span>") +
      cell(std::to_string(stage.calls)) + cell(std::to_string(stage.launches)) +
      cell(fixed(stage.bytes / 1e6, 2)) + cell(micro(stage.times.inStep, 2)) +
      cell(micro(stage.times.alone, 2)) +
      cell(fixed(1e3 * stage.seconds(), 3)) +
      cell(fixed(100 * stage.seconds() / ledger.measured, 1)) +
      cell(fixed(100 * why.byteTime / stage.times.inStep, 1)) +
      cell(micro(stage.calls * why.loss, 0));
  for (Stall stall : kStalls)
    text += cell(micro(why.parts[int(stall)]));
  return text +
         cell(std::string(nameOf(why.stall)) +
                  (why.atLimit ? " (at the limit)" : ""),
              " class=\"left\"") +
         "</tr>\n";
}

std::string table(const Ledger &ledger) {
  std::string text =
      "<h3>Stages</h3>\n<p class=\"soft\">µs, MB and reasons are of one call; "
      "“alone” is the call among its like, back to back.</p>\n"
      "<div class=\"wide\"><table>\n<tr><th>stage</th><th>calls</th>"
      "<th>launches</th><th>MB</th><th>µs</th><th>alone</th><th>ms per "
      "step</th>"
      "<th>% of step</th><th>% of bandwidth</th><th>lost µs per step</th>"
      "<th>weights</th><th>activations</th><th>arithmetic</th><th>launch</th>"
      "<th class=\"left\">waits for</th></tr>\n";
  for (size_t i = 0; i < ledger.stages.size(); ++i)
    text += row(ledger, i);
  return text + "</table></div>\n";
}

} // namespace

std::string escapeHtml(std::string_view text) {
  std::string escaped;
  for (char c : text)
    switch (c) {
    case '&':
      escaped += "&amp;";
      break;
    case '<':
      escaped += "&lt;";
      break;
    case '>':
      escaped += "&gt;";
      break;
    case '"':
      escaped += "&quot;";
      break;
    case '\'':
      escaped += "&#39;";
      break;
    default:
      escaped += c;
    }
  return escaped;
}

std::string ledgerPage(std::span<const Ledger> ledgers) {
  std::string text = kHead;
  text += "<h1>Where the time of a decode step goes</h1>\n";
  if (!ledgers.empty())
    text += "<p class=\"soft\">" +
            escapeHtml(ledgers[0].model + ", " + ledgers[0].device) + "</p>\n";
  for (const Ledger &ledger : ledgers)
    text += "<h2>" + std::to_string(ledger.tokens) +
            (ledger.tokens == 1 ? " token" : " tokens") + " at " +
            std::to_string(ledger.depth) + " positions</h2>\n" +
            summary(ledger) + losses(ledger) + "<h3>The step, in order</h3>\n" +
            key() + "<div class=\"wide\">\n" + ledgerTimeline(ledger) +
            "</div>\n" + table(ledger);
  return text + "</body>\n</html>\n";
}

} // namespace lathe::cli
