//===- Json.h - reading JSON files that nobody vouches for ------*- C++ -*-===//
//
// A strict parser (nesting is bounded, duplicate keys are errors, member order
// is kept) and a view whose typed getters name the file and the field:
//
//   config.json: text_config.hidden_size: expected an integer from 1 to 1000,
//   found "abc"
//
// nlohmann/json.hpp is slow to compile, so this header only forward-declares
// it; include it where raw() is used.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_JSON_H
#define LATHE_RUNTIME_IO_JSON_H

#include "runtime/base/Status.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lathe {

using Json = nlohmann::ordered_json;

inline constexpr int kMaxJsonDepth = 128;
inline constexpr int64_t kMaxJsonBytes = int64_t(256) << 20;

/// A value inside a JsonDocument, with the name that errors give it. Cheap to
/// copy except for that name; valid while the document lives.
///
/// Every getter returns modelError when the value has another type. Getters
/// with a key also fail when this value is no object. The ...Or forms and
/// find() treat a missing member and an explicit null alike.
class JsonValue {
public:
  JsonValue(const Json &value, std::string file, std::string path)
      : value(&value), fileName(std::move(file)), fieldPath(std::move(path)) {}

  const Json &raw() const { return *value; }
  /// The file's name, without folders.
  const std::string &file() const { return fileName; }
  /// "text_config.layer_types[3]"; empty for the document's root.
  const std::string &path() const { return fieldPath; }

  bool isNull() const;
  bool isBool() const;
  bool isInt() const;
  bool isNumber() const;
  bool isString() const;
  bool isArray() const;
  bool isObject() const;

  StatusOr<bool> toBool() const;
  /// Integers only: 3.0 is refused, as is anything outside [min, max].
  StatusOr<int64_t>
  toInt(int64_t min = std::numeric_limits<int64_t>::min(),
        int64_t max = std::numeric_limits<int64_t>::max()) const;
  StatusOr<double> toNumber() const;
  StatusOr<std::string> toString() const;
  /// The elements of an array, in order.
  StatusOr<std::vector<JsonValue>> elements() const;
  /// The members of an object, in file order.
  StatusOr<std::vector<std::pair<std::string, JsonValue>>> members() const;

  /// The member `key`; a missing one is an error.
  StatusOr<JsonValue> get(std::string_view key) const;
  /// The member `key`, or nothing.
  StatusOr<std::optional<JsonValue>> find(std::string_view key) const;

  StatusOr<int64_t> getInt(std::string_view key, int64_t min,
                           int64_t max) const;
  StatusOr<int64_t> getIntOr(std::string_view key, int64_t fallback,
                             int64_t min, int64_t max) const;
  StatusOr<double> getNumber(std::string_view key) const;
  StatusOr<double> getNumberOr(std::string_view key, double fallback) const;
  StatusOr<bool> getBoolOr(std::string_view key, bool fallback) const;
  StatusOr<std::string> getString(std::string_view key) const;
  StatusOr<std::string> getStringOr(std::string_view key,
                                    std::string_view fallback) const;

  /// "<file>: <path>: expected <expected>, found <this value>".
  Status mismatch(std::string_view expected) const;
  /// "<file>: <path>: <message>".
  Status error(std::string_view message) const;

private:
  JsonValue child(std::string_view key, const Json &value) const;

  const Json *value;
  std::string fileName;
  std::string fieldPath;
};

/// Owns a parsed text. Immutable, so safe to share between threads.
class JsonDocument {
public:
  /// Parses `text`; `file` is the name that errors show. modelError when the
  /// text is not one JSON value, nests deeper than `maxDepth`, or repeats a key
  /// within an object.
  static StatusOr<JsonDocument> parse(std::string_view text, std::string file,
                                      int maxDepth = kMaxJsonDepth);

  /// Reads and parses a file of at most kMaxJsonBytes.
  static StatusOr<JsonDocument> read(const std::string &path,
                                     int maxDepth = kMaxJsonDepth);

  JsonDocument(JsonDocument &&) noexcept;
  JsonDocument &operator=(JsonDocument &&) noexcept;
  ~JsonDocument();

  JsonValue root() const { return JsonValue(*value, fileName, ""); }

private:
  JsonDocument(std::unique_ptr<Json> value, std::string file);

  std::unique_ptr<Json> value;
  std::string fileName;
};

} // namespace lathe

#endif // LATHE_RUNTIME_IO_JSON_H
