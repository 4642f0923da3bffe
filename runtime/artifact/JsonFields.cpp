#include "runtime/artifact/JsonFields.h"

#include <algorithm>
#include <optional>
#include <set>

namespace lathe {

static const Json kNothing;
static constexpr size_t kLongLine = 160;

StatusOr<Json> parseStrictly(std::string_view text, const std::string &file) {
  std::vector<std::set<std::string>> keys;
  std::optional<std::string> twin;
  auto watch = [&](int, Json::parse_event_t event, Json &value) {
    if (event == Json::parse_event_t::object_start)
      keys.emplace_back();
    else if (event == Json::parse_event_t::object_end)
      keys.pop_back();
    else if (event == Json::parse_event_t::key &&
             !keys.back().insert(value.get<std::string>()).second)
      twin = value.get<std::string>();
    return true;
  };
  Json root = Json::parse(text.begin(), text.end(), watch,
                          /*allow_exceptions=*/false);
  if (root.is_discarded())
    return modelError(file + ": not valid JSON");
  if (twin)
    return modelError(file + ": the key \"" + twin->substr(0, 100) +
                      "\" appears twice in one object");
  return root;
}

/// A list of plain values, or short.
static bool isLine(const Json &value, const std::string &line) {
  return line.size() <= kLongLine ||
         std::none_of(value.begin(), value.end(),
                      [](const Json &item) { return item.is_structured(); });
}

static void spread(const Json &value, size_t indent, std::string &text) {
  std::string line = value.dump();
  if (isLine(value, line)) {
    text += line;
    return;
  }
  const bool isObject = value.is_object();
  const char *separator = isObject ? "{" : "[";
  for (const auto &item : value.items()) {
    text += separator;
    text += '\n';
    text.append(indent + 1, ' ');
    if (isObject)
      text += Json(item.key()).dump() + ": ";
    spread(item.value(), indent + 1, text);
    separator = ",";
  }
  text += '\n';
  text.append(indent, ' ');
  text += isObject ? '}' : ']';
}

std::string readableText(const Json &value) {
  std::string text;
  spread(value, 0, text);
  return text += '\n';
}

void JsonProblem::add(std::string_view path, std::string_view message) {
  if (!status.ok())
    return;
  std::string where = file + ": ";
  if (!path.empty())
    where += std::string(path) + ": ";
  status = modelError(where + std::string(message));
}

static std::string shown(const Json &value) {
  if (value.is_object())
    return "an object";
  if (value.is_array())
    return "an array";
  std::string text =
      value.dump(-1, ' ', false, nlohmann::detail::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 57) + "..." : text;
}

JsonFields::JsonFields(const Json &value, std::string path,
                       JsonProblem &problem)
    : value(value), path(std::move(path)), problem(problem) {
  if (!value.is_object())
    problem.add(this->path, "expected an object, found " + shown(value));
}

std::string JsonFields::pathOf(std::string_view key) const {
  return path.empty() ? std::string(key) : path + "." + std::string(key);
}

void JsonFields::fail(const char *key, std::string_view message) {
  problem.add(pathOf(key), message);
}

const Json &JsonFields::member(const char *key) {
  asked.push_back(key);
  auto found = value.find(key);
  if (found != value.end())
    return *found;
  fail(key, "required, but missing");
  return kNothing;
}

std::string JsonFields::text(const char *key) {
  const Json &found = member(key);
  if (found.is_string())
    return found.get<std::string>();
  fail(key, "expected a string, found " + shown(found));
  return {};
}

bool JsonFields::boolean(const char *key) {
  const Json &found = member(key);
  if (found.is_boolean())
    return found.get<bool>();
  fail(key, "expected true or false, found " + shown(found));
  return false;
}

size_t JsonFields::oneOf(const char *key,
                         std::initializer_list<std::string_view> names) {
  std::string found = text(key);
  auto name = std::find(names.begin(), names.end(), found);
  if (name != names.end())
    return size_t(name - names.begin());
  std::string expected;
  for (std::string_view known : names)
    expected += (expected.empty() ? "" : ", ") + std::string(known);
  fail(key, "expected one of " + expected + ", found \"" + found.substr(0, 60) +
                "\"");
  return 0;
}

int64_t JsonFields::readInteger(const Json &found, const std::string &at,
                                int64_t min, int64_t max) {
  constexpr auto kHighest = uint64_t(std::numeric_limits<int64_t>::max());
  bool fits = found.is_number_integer() &&
              !(found.is_number_unsigned() && found.get<uint64_t>() > kHighest);
  int64_t number = fits ? found.get<int64_t>() : 0;
  if (fits && number >= min && number <= max)
    return number;
  problem.add(at, "expected an integer from " + std::to_string(min) + " to " +
                      std::to_string(max) + ", found " + shown(found));
  return min;
}

std::vector<std::pair<std::string, const Json *>>
JsonFields::elements(const char *key) {
  std::vector<std::pair<std::string, const Json *>> out;
  const Json &found = member(key);
  if (!found.is_array()) {
    fail(key, "expected an array, found " + shown(found));
    return out;
  }
  for (const Json &element : found)
    out.emplace_back(pathOf(key) + "[" + std::to_string(out.size()) + "]",
                     &element);
  return out;
}

std::vector<int64_t> JsonFields::integers(const char *key, int64_t min) {
  std::vector<int64_t> out;
  for (const auto &[at, element] : elements(key))
    out.push_back(
        readInteger(*element, at, min, std::numeric_limits<int64_t>::max()));
  return out;
}

void JsonFields::finish() {
  for (const auto &item : value.items())
    if (value.is_object() &&
        std::find(asked.begin(), asked.end(), item.key()) == asked.end())
      problem.add(pathOf(item.key().substr(0, 60)),
                  "unknown; this version of Lathe does not write it");
}

} // namespace lathe
