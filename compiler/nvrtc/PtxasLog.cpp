#include "compiler/nvrtc/PtxasLog.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace lathe {

/// Calls `visit` with every line, without its line end.
template <class Visit>
static void forEachLine(std::string_view text, const Visit &visit) {
  while (!text.empty()) {
    size_t end = text.find('\n');
    visit(text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
  }
}

/// The number in front of `unit`: 24 for "Used 24 registers" and " registers".
static int numberBefore(std::string_view line, std::string_view unit) {
  size_t end = line.find(unit);
  if (end == line.npos)
    return 0;
  size_t start = end;
  while (start > 0 && line[start - 1] >= '0' && line[start - 1] <= '9')
    --start;
  int value = 0;
  std::from_chars(line.data() + start, line.data() + end, value);
  return value;
}

/// The name in a "Compiling entry function 'name' for 'sm_90'" line.
static std::optional<std::string_view> entryName(std::string_view line) {
  constexpr std::string_view mark = "Compiling entry function '";
  size_t start = line.find(mark);
  if (start == line.npos)
    return std::nullopt;
  line.remove_prefix(start + mark.size());
  size_t end = line.find('\'');
  if (end == line.npos)
    return std::nullopt;
  return line.substr(0, end);
}

// An entry's section of the log, with the functions it calls after it:
//
//   ptxas info    : Compiling entry function 'mix' for 'sm_90'
//   ptxas info    : Function properties for mix
//   ptxas         .     200 bytes stack frame, 8 bytes spill stores, ...
//   ptxas info    : Used 24 registers, used 1 barriers, 200 bytes cumulative
//                   stack size, 4096 bytes smem
//   ptxas info    : Function properties for callee
//   ptxas         .     0 bytes stack frame, ...
std::vector<EntryResources> parsePtxasLog(std::string_view log) {
  std::vector<EntryResources> entries;
  forEachLine(log, [&](std::string_view line) {
    if (auto name = entryName(line)) {
      entries.push_back({.name = std::string(*name)});
      return;
    }
    if (entries.empty())
      return;
    EntryResources &entry = entries.back();
    if (line.find(" bytes spill stores") != line.npos) {
      entry.spillBytes += numberBefore(line, " bytes spill stores") +
                          numberBefore(line, " bytes spill loads");
      int frame = numberBefore(line, " bytes stack frame");
      entry.stackBytes = std::max(entry.stackBytes, frame);
    } else if (line.find("Used ") != line.npos) {
      entry.registers = numberBefore(line, " registers");
      entry.staticShared = numberBefore(line, " bytes smem");
      int stack = numberBefore(line, " bytes cumulative stack size");
      entry.stackBytes = std::max(entry.stackBytes, stack);
    }
  });
  return entries;
}

std::string ptxasMessages(std::string_view log) {
  std::string messages;
  forEachLine(log, [&](std::string_view line) {
    line = line.substr(0, line.find('\0'));
    bool resource =
        line.starts_with("ptxas info") || line.starts_with("ptxas         .");
    // That it lets tensor-core instructions run one by one is "info" as well.
    resource &= line.find("Potential Performance Loss") == line.npos;
    if (resource || (line.empty() && messages.empty()))
      return;
    messages.append(line).push_back('\n');
  });
  while (messages.ends_with("\n"))
    messages.pop_back();
  return messages;
}

} // namespace lathe
