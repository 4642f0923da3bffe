#include "runtime/io/tokenizer/PreTokenizer.h"

#include "runtime/io/tokenizer/Utf8.h"

namespace lathe {
namespace {

/// What ByteLevel cuts by when use_regex is on.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+)"
    R"(|\s+(?!\S)|\s+)";

} // namespace

StatusOr<PreTokenizer>
PreTokenizer::create(const std::vector<PreTokenizerStep> &steps) {
  PreTokenizer result;
  for (const PreTokenizerStep &step : steps) {
    using Kind = PreTokenizerStep::Kind;
    Step compiled;
    compiled.addPrefixSpace = step.addPrefixSpace;
    if (step.kind != Kind::ByteLevel || step.useRegex) {
      auto regex =
          step.kind == Kind::SplitLiteral
              ? Regex::literal(step.pattern, step.field)
              : Regex::compile(step.kind == Kind::ByteLevel ? kGpt2Pattern
                                                            : step.pattern,
                               step.field);
      LATHE_ASSIGN_OR_RETURN(compiled.regex, std::move(regex));
    }
    result.steps.push_back(std::move(compiled));
  }
  return result;
}

Status PreTokenizer::split(std::string_view text, RegexScratch &scratch,
                           const Visit &visit) const {
  return apply(0, text, scratch, visit);
}

Status PreTokenizer::apply(size_t index, std::string_view text,
                           RegexScratch &scratch, const Visit &visit) const {
  if (text.empty())
    return absl::OkStatus();
  if (index == steps.size()) {
    visit(text);
    return absl::OkStatus();
  }
  const Step &step = steps[index];
  std::string prefixed;
  if (step.addPrefixSpace && text[0] != ' ') {
    prefixed = " " + std::string(text);
    text = prefixed;
  }
  if (!step.regex)
    return apply(index + 1, text, scratch, visit);

  size_t done = 0;
  for (size_t from = 0; from <= text.size();) {
    LATHE_ASSIGN_OR_RETURN(auto match, step.regex->find(text, from, scratch));
    if (!match)
      break;
    LATHE_RETURN_IF_ERROR(apply(
        index + 1, text.substr(done, match->begin - done), scratch, visit));
    LATHE_RETURN_IF_ERROR(
        apply(index + 1, text.substr(match->begin, match->end - match->begin),
              scratch, visit));
    done = from = match->end;
    if (match->begin == match->end) { // go on behind the next code point
      if (from == text.size())
        break;
      nextCodePoint(text, from);
    }
  }
  return apply(index + 1, text.substr(done), scratch, visit);
}

} // namespace lathe
