#include "runtime/io/Json.h"

#include "runtime/io/File.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace lathe {

/// Keys come from the file and may be megabytes long.
static constexpr size_t kMaxShownPath = 300;

namespace {

/// Builds the tree by hand: ordered_json searches an object linearly on every
/// insertion, which a vocabulary of 250 thousand entries cannot afford.
class TreeBuilder final : public nlohmann::json_sax<Json> {
public:
  TreeBuilder(std::string_view file, int maxDepth)
      : file(file), maxDepth(maxDepth) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool v) override { return add(v); }
  bool number_integer(number_integer_t v) override { return add(v); }
  bool number_unsigned(number_unsigned_t v) override { return add(v); }
  bool number_float(number_float_t v, const string_t &) override {
    return add(v);
  }
  bool string(string_t &v) override { return add(std::move(v)); }
  bool binary(binary_t &) override { return false; }

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_array() override {
    stack.pop_back();
    return true;
  }
  bool end_object() override;

  bool key(string_t &name) override {
    auto &object = stack.back()->get_ref<Json::object_t &>();
    // Growing by hand moves the values; std::vector would copy them, because
    // a pair with a const key may throw when it moves.
    if (object.size() == object.capacity()) {
      Json::object_t bigger;
      bigger.reserve(std::max<size_t>(4, object.size() * 2));
      for (auto &[k, v] : object)
        bigger.emplace_back(k, std::move(v));
      object.swap(bigger);
    }
    object.emplace_back(std::move(name), nullptr);
    return true;
  }

  bool parse_error(std::size_t position, const std::string &,
                   const nlohmann::detail::exception &e) override {
    std::string_view what = e.what();
    if (auto end = what.find("] "); end != what.npos)
      what.remove_prefix(end + 2);
    return fail("not valid JSON (byte " + std::to_string(position) +
                "): " + std::string(what.substr(0, 200)));
  }

  Json root;
  Status status;

private:
  bool fail(std::string_view message) {
    if (status.ok())
      status = modelError(std::string(file) + ": " + std::string(message));
    return false;
  }

  Json *place(Json value) {
    if (stack.empty()) {
      root = std::move(value);
      return &root;
    }
    if (stack.back()->is_array()) {
      auto &array = stack.back()->get_ref<Json::array_t &>();
      return &array.emplace_back(std::move(value));
    }
    Json &slot = stack.back()->get_ref<Json::object_t &>().back().second;
    slot = std::move(value);
    return &slot;
  }

  bool add(Json value) {
    place(std::move(value));
    return true;
  }

  bool open(Json value) {
    if (int(stack.size()) >= maxDepth)
      return fail("nested more than " + std::to_string(maxDepth) +
                  " levels deep");
    stack.push_back(place(std::move(value)));
    return true;
  }

  std::string_view file;
  int maxDepth;
  std::vector<Json *> stack;
};

bool TreeBuilder::end_object() {
  const auto &object = stack.back()->get_ref<Json::object_t &>();
  std::vector<std::string_view> keys;
  keys.reserve(object.size());
  for (const auto &[k, v] : object)
    keys.push_back(k);
  std::sort(keys.begin(), keys.end());
  auto twin = std::adjacent_find(keys.begin(), keys.end());
  if (twin != keys.end())
    return fail("the key \"" + std::string(twin->substr(0, 100)) +
                "\" appears twice in one object");
  stack.pop_back();
  return true;
}

std::string describe(const Json &value) {
  if (value.is_object())
    return "an object";
  if (value.is_array())
    return "an array";
  std::string text =
      value.dump(-1, ' ', false, nlohmann::detail::error_handler_t::replace);
  if (text.size() > 60)
    text = text.substr(0, 57) + "...";
  return text;
}

} // namespace

bool JsonValue::isNull() const { return value->is_null(); }
bool JsonValue::isBool() const { return value->is_boolean(); }
bool JsonValue::isInt() const { return value->is_number_integer(); }
bool JsonValue::isNumber() const { return value->is_number(); }
bool JsonValue::isString() const { return value->is_string(); }
bool JsonValue::isArray() const { return value->is_array(); }
bool JsonValue::isObject() const { return value->is_object(); }

Status JsonValue::error(std::string_view message) const {
  std::string where = fileName + ": ";
  if (!fieldPath.empty())
    where += fieldPath.substr(0, kMaxShownPath) + ": ";
  return modelError(where + std::string(message));
}

Status JsonValue::mismatch(std::string_view expected) const {
  return error("expected " + std::string(expected) + ", found " +
               describe(*value));
}

JsonValue JsonValue::child(std::string_view key, const Json &v) const {
  std::string path = fieldPath;
  if (!path.empty())
    path += '.';
  return JsonValue(v, fileName, path.append(key));
}

StatusOr<bool> JsonValue::toBool() const {
  if (!value->is_boolean())
    return mismatch("true or false");
  return value->get<bool>();
}

static std::string expectedInt(int64_t min, int64_t max) {
  constexpr auto kLowest = std::numeric_limits<int64_t>::min();
  constexpr auto kHighest = std::numeric_limits<int64_t>::max();
  if (min == kLowest && max == kHighest)
    return "an integer";
  if (max == kHighest && min == 1)
    return "a positive integer";
  if (max == kHighest)
    return "an integer of at least " + std::to_string(min);
  return "an integer from " + std::to_string(min) + " to " +
         std::to_string(max);
}

StatusOr<int64_t> JsonValue::toInt(int64_t min, int64_t max) const {
  constexpr auto kHighest = uint64_t(std::numeric_limits<int64_t>::max());
  bool fits =
      value->is_number_integer() &&
      !(value->is_number_unsigned() && value->get<uint64_t>() > kHighest);
  int64_t v = fits ? value->get<int64_t>() : 0;
  if (!fits || v < min || v > max)
    return mismatch(expectedInt(min, max));
  return v;
}

StatusOr<double> JsonValue::toNumber() const {
  if (!value->is_number())
    return mismatch("a number");
  return value->get<double>();
}

StatusOr<std::string> JsonValue::toString() const {
  if (!value->is_string())
    return mismatch("a string");
  return value->get<std::string>();
}

StatusOr<std::vector<JsonValue>> JsonValue::elements() const {
  if (!value->is_array())
    return mismatch("an array");
  std::vector<JsonValue> out;
  out.reserve(value->size());
  for (const Json &v : *value)
    out.emplace_back(v, fileName,
                     fieldPath + "[" + std::to_string(out.size()) + "]");
  return out;
}

StatusOr<std::vector<std::pair<std::string, JsonValue>>>
JsonValue::members() const {
  if (!value->is_object())
    return mismatch("an object");
  std::vector<std::pair<std::string, JsonValue>> out;
  out.reserve(value->size());
  for (const auto &[k, v] : value->get_ref<const Json::object_t &>())
    out.emplace_back(k, child(k, v));
  return out;
}

StatusOr<JsonValue> JsonValue::get(std::string_view key) const {
  if (!value->is_object())
    return mismatch("an object");
  for (const auto &[k, v] : value->get_ref<const Json::object_t &>())
    if (k == key)
      return child(key, v);
  return child(key, *value).error("required, but missing");
}

StatusOr<std::optional<JsonValue>> JsonValue::find(std::string_view key) const {
  if (!value->is_object())
    return mismatch("an object");
  for (const auto &[k, v] : value->get_ref<const Json::object_t &>())
    if (k == key && !v.is_null())
      return std::optional(child(key, v));
  return std::optional<JsonValue>();
}

StatusOr<int64_t> JsonValue::getInt(std::string_view key, int64_t min,
                                    int64_t max) const {
  LATHE_ASSIGN_OR_RETURN(JsonValue field, get(key));
  return field.toInt(min, max);
}

StatusOr<int64_t> JsonValue::getIntOr(std::string_view key, int64_t fallback,
                                      int64_t min, int64_t max) const {
  LATHE_ASSIGN_OR_RETURN(auto field, find(key));
  return field ? field->toInt(min, max) : StatusOr<int64_t>(fallback);
}

StatusOr<double> JsonValue::getNumber(std::string_view key) const {
  LATHE_ASSIGN_OR_RETURN(JsonValue field, get(key));
  return field.toNumber();
}

StatusOr<double> JsonValue::getNumberOr(std::string_view key,
                                        double fallback) const {
  LATHE_ASSIGN_OR_RETURN(auto field, find(key));
  return field ? field->toNumber() : StatusOr<double>(fallback);
}

StatusOr<bool> JsonValue::getBoolOr(std::string_view key, bool fallback) const {
  LATHE_ASSIGN_OR_RETURN(auto field, find(key));
  return field ? field->toBool() : StatusOr<bool>(fallback);
}

StatusOr<std::string> JsonValue::getString(std::string_view key) const {
  LATHE_ASSIGN_OR_RETURN(JsonValue field, get(key));
  return field.toString();
}

StatusOr<std::string> JsonValue::getStringOr(std::string_view key,
                                             std::string_view fallback) const {
  LATHE_ASSIGN_OR_RETURN(auto field, find(key));
  return field ? field->toString()
               : StatusOr<std::string>(std::string(fallback));
}

JsonDocument::JsonDocument(std::unique_ptr<Json> value, std::string file)
    : value(std::move(value)), fileName(std::move(file)) {}
JsonDocument::JsonDocument(JsonDocument &&) noexcept = default;
JsonDocument &JsonDocument::operator=(JsonDocument &&) noexcept = default;
JsonDocument::~JsonDocument() = default;

StatusOr<JsonDocument> JsonDocument::parse(std::string_view text,
                                           std::string file, int maxDepth) {
  TreeBuilder builder(file, maxDepth);
  bool ok = Json::sax_parse(text.begin(), text.end(), &builder);
  if (!builder.status.ok())
    return builder.status;
  if (!ok)
    return modelError(file + ": not valid JSON");
  return JsonDocument(std::make_unique<Json>(std::move(builder.root)),
                      std::move(file));
}

StatusOr<JsonDocument> JsonDocument::read(const std::string &path,
                                          int maxDepth) {
  LATHE_ASSIGN_OR_RETURN(std::string text,
                         readFile(path, uint64_t(kMaxJsonBytes)));
  return parse(text, path.substr(path.find_last_of('/') + 1), maxDepth);
}

} // namespace lathe
