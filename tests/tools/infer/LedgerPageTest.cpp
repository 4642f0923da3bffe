#include "tools/infer/LedgerPage.h"

#include "tests/tools/infer/LedgerFixture.h"
#include "tools/infer/LedgerTimeline.h"

#include "gtest/gtest.h"

#include <cmath>
#include <regex>

namespace lathe::cli {
namespace {

std::string pageOf(const Ledger &ledger) { return ledgerPage({&ledger, 1}); }

bool has(const std::string &text, const std::string &part) {
  return text.find(part) != std::string::npos;
}

size_t count(const std::string &text, const std::string &part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos;
       at = text.find(part, at + 1))
    ++found;
  return found;
}

/// Sum of the widths of the timeline's bars of a class.
double widthOf(const std::string &svg, const std::string &name) {
  const std::regex bar("class=\"" + name + "\"[^>]* width=\"([0-9.]+)\"");
  double sum = 0;
  for (std::sregex_iterator it(svg.begin(), svg.end(), bar), end; it != end;
       ++it)
    sum += std::stod((*it)[1]);
  return sum;
}

TEST(LedgerPage, NeedsNothingElse) {
  const std::string page = pageOf(testLedger());
  for (const char *outside : {"<script", "http:", "https:", "url(", "@import",
                              "<img", "<link", "onload"})
    EXPECT_FALSE(has(page, outside)) << outside;
  EXPECT_TRUE(has(page, "prefers-color-scheme: dark"));
  EXPECT_TRUE(has(page, "<meta charset=\"utf-8\">"));
}

TEST(LedgerPage, ClosesWhatItOpens) {
  const std::string page = pageOf(testLedger());
  for (const char *tag :
       {"html", "head", "body",  "style", "table", "tr",  "td", "th",
        "svg",  "g",    "title", "ol",    "ul",    "li",  "dl", "dt",
        "dd",   "div",  "h2",    "h3",    "p",     "text"}) {
    const std::string name(tag);
    EXPECT_EQ(count(page, "<" + name + ">") + count(page, "<" + name + " "),
              count(page, "</" + name + ">"))
        << tag;
  }
}

TEST(LedgerPage, NamesTheLargestLossesInWords) {
  const std::string page = pageOf(testLedger());
  EXPECT_TRUE(has(page,
                  "<strong>A gate_proj, up_proj</strong> (linear_0): 12 µs "
                  "per step over the byte limit"))
      << page;
  EXPECT_TRUE(has(page, meaningOf(Stall::Activations)));
  EXPECT_LT(page.find("gate_proj"), page.find("lm_head"));
}

TEST(LedgerPage, SumsUpTheStep) {
  const std::string page = pageOf(testLedger());
  EXPECT_TRUE(has(page, "family, Test GPU"));
  EXPECT_TRUE(has(page, "4 tokens at 1000 positions"));
  EXPECT_TRUE(has(page, "<dt>step</dt><dd>0.042 ms</dd>"));
  EXPECT_TRUE(has(page, "<dt>of the limit</dt><dd>70.8 %</dd>"));
}

TEST(LedgerPage, EscapesNames) {
  Ledger ledger = testLedger();
  ledger.model = "<b>&\"'";
  ledger.stages[0].what = ledger.stages[0].kernel = "<script>x</script>";
  const std::string page = pageOf(ledger);
  EXPECT_FALSE(has(page, "<script"));
  EXPECT_FALSE(has(page, "<b>"));
  EXPECT_TRUE(has(page, "&lt;b&gt;&amp;&quot;&#39;"));
}

TEST(LedgerPage, HasAPartPerLedger) {
  const Ledger ledgers[] = {testLedger(), testLedger()};
  EXPECT_EQ(count(ledgerPage(ledgers), "<h2>"), 2u);
  EXPECT_EQ(count(ledgerPage({}), "<h2>"), 0u);
}

TEST(LedgerTimeline, HasABarPerCallInOrder) {
  const std::string svg = ledgerTimeline(testLedger());
  EXPECT_EQ(count(svg, "<title>"), 3u);
  EXPECT_LT(svg.rfind("gate_proj"), svg.find("lm_head"));
}

TEST(LedgerTimeline, BytesAreFilledApart) {
  const std::string svg = ledgerTimeline(testLedger());
  const double bytes = widthOf(svg, "bytes");
  EXPECT_NEAR(bytes / widthOf(svg, "activations"), 30 / 12.0, 0.01);
  EXPECT_NEAR(bytes / widthOf(svg, "weights"), 30 / 0.5, 0.2);
}

TEST(LedgerTimeline, WideBarsHaveTheMarkOfTheTable) {
  const Ledger ledger = testLedger();
  const std::string svg = ledgerTimeline(ledger);
  EXPECT_EQ(count(svg, ">A</text>"), 2u);
  EXPECT_EQ(count(svg, ">B</text>"), 1u);
  EXPECT_TRUE(has(pageOf(ledger), "<strong>B</strong> lm_head"));
  EXPECT_EQ(stageMark(26), "27");
}

TEST(LedgerTimeline, ALongStepHasLinesOfOneLength) {
  Ledger ledger = testLedger();
  ledger.stages[0].calls = 99;
  ledger.order.assign(99, 0);
  ledger.order.push_back(1);
  const std::string svg = ledgerTimeline(ledger);
  EXPECT_EQ(count(svg, "<line "), 4u);
  // Whatever is cut at the end of a line goes on in the next.
  const double all = widthOf(svg, "bytes") + widthOf(svg, "activations") +
                     widthOf(svg, "weights");
  EXPECT_NEAR(all, 4 * (1000 - 52), 1.5);
}

} // namespace
} // namespace lathe::cli
