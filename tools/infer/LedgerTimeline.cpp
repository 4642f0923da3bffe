#include "tools/infer/LedgerTimeline.h"

#include "tools/infer/LedgerPage.h"
#include "tools/infer/Numbers.h"

#include <algorithm>
#include <cmath>

namespace lathe::cli {

namespace {

constexpr double kWidth = 1000, kLeft = 52, kBar = 22, kPitch = 34, kTop = 6;
/// Calls in a line, about.
constexpr size_t kCalls = 28;

/// Lines of `span` seconds each.
struct Scale {
  double span;
  int lines;

  double x(double seconds) const {
    return kLeft + (kWidth - kLeft) * seconds / span;
  }
};

Scale scaleOf(const Ledger &ledger) {
  const int lines =
      std::clamp(int((ledger.order.size() + kCalls - 1) / kCalls), 1, 16);
  return {std::max(ledger.seconds(), 1e-9) / lines, lines};
}

/// [begin, end) of the step, in as many lines as it touches.
void draw(std::string &text, const Scale &scale, double begin, double end,
          const std::string &name) {
  constexpr double kRounding = 1e-12;
  while (end - begin > kRounding) {
    const int line =
        std::min(int((begin + kRounding) / scale.span), scale.lines - 1);
    const double from = line * scale.span;
    const double to =
        line + 1 == scale.lines ? end : std::min(end, from + scale.span);
    text += "<rect class=\"" + name + "\" x=\"" +
            fixed(scale.x(begin - from), 2) + "\" y=\"" +
            fixed(kTop + kPitch * line, 0) + "\" width=\"" +
            fixed(scale.x(to - begin) - kLeft, 2) + "\" height=\"" +
            fixed(kBar, 0) + "\"/>";
    begin = to;
  }
}

/// A stage's mark where its bytes begin, if there is room.
std::string mark(const Scale &scale, double begin, double end, int stage) {
  constexpr double kRoom = 12;
  const int line = std::min(int(begin / scale.span), scale.lines - 1);
  const double from = line * scale.span;
  const double room = std::min(end, from + scale.span) - begin;
  if (scale.x(room) - kLeft < kRoom)
    return "";
  return "<text class=\"mark\" x=\"" + fixed(scale.x(begin - from) + 3, 1) +
         "\" y=\"" + fixed(kTop + kPitch * line + 15, 0) + "\">" +
         stageMark(size_t(stage)) + "</text>";
}

std::string axis(const Scale &scale) {
  std::string text;
  for (int line = 0; line < scale.lines; ++line) {
    const double bottom = kTop + kPitch * line + kBar;
    text += "<text x=\"0\" y=\"" + fixed(bottom - 7, 0) + "\">" +
            fixed(1e3 * scale.span * line, 2) + " ms</text>\n" +
            "<line class=\"axis\" x1=\"" + fixed(kLeft, 0) + "\" x2=\"" +
            fixed(kWidth, 0) + "\" y1=\"" + fixed(bottom + 3, 0) + "\" y2=\"" +
            fixed(bottom + 3, 0) + "\"/>\n";
  }
  return text;
}

} // namespace

std::string stageMark(size_t stage) {
  return stage < 26 ? std::string(1, char('A' + stage))
                    : std::to_string(stage + 1);
}

std::string ledgerTimeline(const Ledger &ledger) {
  const Scale scale = scaleOf(ledger);
  const std::string height = fixed(kTop + kPitch * scale.lines, 0);
  std::string text = "<svg viewBox=\"0 0 " + fixed(kWidth, 0) + " " + height +
                     "\" width=\"100%\" role=\"img\" aria-label=\"timeline of "
                     "the step\">\n" +
                     axis(scale);
  double at = 0;
  for (int index : ledger.order) {
    const LedgerStage &stage = ledger.stages[size_t(index)];
    const Explanation why = explain(stage, ledger.bandwidth);
    const double end = at + stage.times.inStep;
    const double filled =
        std::min(at + std::min(why.byteTime, stage.times.inStep), end);
    text += "<g class=\"edge\"><title>" +
            escapeHtml((stage.what.empty() ? "" : stage.what + ", ") +
                       stage.kernel + ": ") +
            fixed(1e6 * stage.times.inStep, 1) + " µs, bytes " +
            fixed(1e6 * why.byteTime, 1) + " µs, " + nameOf(why.stall) +
            "</title>";
    draw(text, scale, at, filled, "bytes");
    draw(text, scale, filled, end, nameOf(why.stall));
    text += mark(scale, at, filled, index) + "</g>\n";
    at = end;
  }
  return text + "</svg>\n";
}

} // namespace lathe::cli
