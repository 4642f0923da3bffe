#include "runtime/io/tokenizer/Regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace lathe {
namespace {

// A real pattern needs a few steps per character; these stop a hostile one.
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr uint32_t kHeapLimitKib = 64 * 1024;
constexpr size_t kMaxPattern = 64 * 1024;
/// Escapes that Oniguruma and PCRE2 read differently.
constexpr std::string_view kRefusedEscapes = "wWbBhHvVCKRXOyYgkQE";
constexpr size_t kJitStackStart = 32 * 1024;
constexpr size_t kJitStackMax = 4 * 1024 * 1024;

std::string describe(int error) {
  PCRE2_UCHAR buffer[160] = {};
  pcre2_get_error_message(error, buffer, sizeof buffer);
  return reinterpret_cast<const char *>(buffer);
}

Status refuse(std::string_view field, size_t offset, std::string_view why) {
  return modelError(std::string(field) +
                    ": the regex does not compile at offset " +
                    std::to_string(offset) + ": " + std::string(why));
}

/// Rewrites an Oniguruma pattern for PCRE2, as the header says.
class Translator {
public:
  Translator(std::string_view pattern, std::string_view field)
      : pattern(pattern), field(field) {}

  StatusOr<std::string> run() {
    while (at < pattern.size()) {
      char c = pattern[at];
      if (c == '\\')
        LATHE_RETURN_IF_ERROR(escape());
      else if (inSet)
        LATHE_RETURN_IF_ERROR(setMember(c));
      else
        plain(c);
    }
    return std::move(out);
  }

private:
  Status escape() {
    if (at + 1 == pattern.size())
      return refuse(field, at, "it ends in a backslash");
    char kind = pattern[at + 1];
    if (kRefusedEscapes.find(kind) != std::string_view::npos)
      return refuse(field, at,
                    std::string("\\") + kind + " is not supported here");
    if (kind == 's' || kind == 'S')
      out += kind == 's' ? "\\p{White_Space}" : "\\P{White_Space}";
    else
      out.append(pattern, at, 2);
    at += 2;
    return absl::OkStatus();
  }

  Status setMember(char c) {
    std::string_view rest = pattern.substr(at);
    if (c == '[' && !rest.starts_with("[:"))
      return refuse(field, at, "nested sets are not supported");
    if (rest.starts_with("&&"))
      return refuse(field, at, "set intersections are not supported");
    if (c == '[') { // a POSIX class: copy up to its own "]"
      size_t end = rest.find(":]");
      if (end == std::string_view::npos)
        return refuse(field, at, "a POSIX class is not closed");
      out.append(rest, 0, end + 2);
      at += end + 2;
      return absl::OkStatus();
    }
    inSet = c != ']';
    out += c;
    ++at;
    return absl::OkStatus();
  }

  void plain(char c) {
    out += c;
    ++at;
    if (c != '[')
      return;
    inSet = true;
    // A "]" in first place is a member of the set.
    if (at < pattern.size() && pattern[at] == '^')
      out += pattern[at++];
    if (at < pattern.size() && pattern[at] == ']')
      out += pattern[at++];
  }

  std::string_view pattern, field;
  std::string out;
  size_t at = 0;
  bool inSet = false;
};

} // namespace

struct RegexScratch::State {
  pcre2_match_data *match = pcre2_match_data_create(1, nullptr);
  pcre2_match_context *context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack *stack =
      pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr);

  State() {
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  State(const State &) = delete;
  State &operator=(const State &) = delete;
  ~State() {
    pcre2_match_data_free(match);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};

RegexScratch::RegexScratch() : state(std::make_unique<State>()) {}
RegexScratch::~RegexScratch() = default;

struct Regex::Code {
  pcre2_code *compiled;
  std::string field;

  Code(pcre2_code *compiled, std::string_view field)
      : compiled(compiled), field(field) {}
  Code(const Code &) = delete;
  Code &operator=(const Code &) = delete;
  ~Code() { pcre2_code_free(compiled); }
};

Regex::Regex(std::unique_ptr<Code> code) : code(std::move(code)) {}
Regex::Regex(Regex &&) noexcept = default;
Regex &Regex::operator=(Regex &&) noexcept = default;
Regex::~Regex() = default;

StatusOr<Regex> Regex::compile(std::string_view pattern,
                               std::string_view field) {
  LATHE_ASSIGN_OR_RETURN(std::string translated,
                         Translator(pattern, field).run());
  return compilePcre(translated, field, /*isLiteral=*/false);
}

StatusOr<Regex> Regex::literal(std::string_view text, std::string_view field) {
  return compilePcre(text, field, /*isLiteral=*/true);
}

StatusOr<Regex> Regex::compilePcre(std::string_view pattern,
                                   std::string_view field, bool isLiteral) {
  if (pattern.size() > kMaxPattern)
    return modelError(std::string(field) + ": the regex has " +
                      std::to_string(pattern.size()) + " bytes, the limit is " +
                      std::to_string(kMaxPattern));
  uint32_t options =
      PCRE2_UTF |
      (isLiteral ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code *compiled =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()),
                    pattern.size(), options, &error, &offset, nullptr);
  if (!compiled)
    return refuse(field, offset, describe(error));
  auto code = std::make_unique<Code>(compiled, field);
  // Without the JIT, where the system forbids it, the interpreter takes over.
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
  return Regex(std::move(code));
}

StatusOr<std::optional<ByteRange>> Regex::find(std::string_view subject,
                                               size_t from,
                                               RegexScratch &scratch) const {
  RegexScratch::State &state = *scratch.state;
  auto match = [&](uint32_t options) {
    return pcre2_match(code->compiled,
                       reinterpret_cast<PCRE2_SPTR>(subject.data()),
                       subject.size(), from, PCRE2_NO_UTF_CHECK | options,
                       state.match, state.context);
  };
  int result = match(0);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT)
    result = match(PCRE2_NO_JIT);
  if (result == PCRE2_ERROR_NOMATCH)
    return std::optional<ByteRange>();
  if (result < 0)
    return modelError(code->field +
                      ": the regex cannot be matched: " + describe(result));
  const PCRE2_SIZE *range = pcre2_get_ovector_pointer(state.match);
  return std::optional(ByteRange{range[0], range[1]});
}

} // namespace lathe
