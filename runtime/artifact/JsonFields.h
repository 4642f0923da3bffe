//===- JsonFields.h - JSON read strictly, for this folder -------*- C++ -*-===//
//
// Private to runtime/artifact. Reading never stops half-way: the first problem
// is kept, later reads return empty values, and the caller looks once, at the
// end.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_ARTIFACT_JSONFIELDS_H
#define LATHE_RUNTIME_ARTIFACT_JSONFIELDS_H

#include "runtime/base/Status.h"

#include <nlohmann/json.hpp>

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lathe {

using Json = nlohmann::ordered_json;

/// Parses one JSON value; modelError "<file>: ..." when `text` is none, or an
/// object in it has a key twice.
StatusOr<Json> parseStrictly(std::string_view text, const std::string &file);

/// The text of `value`: what is short or a list of plain values on one line,
/// all else a member a line.
std::string readableText(const Json &value);

/// The first problem found in a file.
struct JsonProblem {
  std::string file;
  Status status;

  /// Keeps modelError "<file>: <path>: <message>" unless there is one already.
  void add(std::string_view path, std::string_view message);
};

/// The members of one object. Each has to be there, and be asked for once
/// before finish().
class JsonFields {
public:
  JsonFields(const Json &value, std::string path, JsonProblem &problem);

  std::string text(const char *key);
  bool boolean(const char *key);
  /// One of `names`, as its index.
  size_t oneOf(const char *key, std::initializer_list<std::string_view> names);
  template <std::integral T>
  T integer(const char *key, int64_t min = 0,
            int64_t max = std::numeric_limits<T>::max()) {
    return T(readInteger(member(key), pathOf(key), min, max));
  }
  std::vector<int64_t> integers(const char *key, int64_t min);
  /// Calls read(JsonFields) for the object `key`.
  template <typename Read> void object(const char *key, Read read) {
    read(JsonFields(member(key), pathOf(key), problem));
  }
  /// read(JsonFields) of every object in the array `key`.
  template <typename Read> auto objects(const char *key, Read read) {
    std::vector<decltype(read(std::declval<JsonFields>()))> out;
    for (const auto &[path, value] : elements(key))
      out.push_back(read(JsonFields(*value, path, problem)));
    return out;
  }
  /// The elements of the array `key` with their paths.
  std::vector<std::pair<std::string, const Json *>> elements(const char *key);

  /// Keeps a problem with the member `key`.
  void fail(const char *key, std::string_view message);
  /// A member that nobody asked for is a problem.
  void finish();

  std::string pathOf(std::string_view key) const;

private:
  const Json &member(const char *key);
  int64_t readInteger(const Json &value, const std::string &path, int64_t min,
                      int64_t max);

  const Json &value;
  std::string path;
  JsonProblem &problem;
  std::vector<std::string_view> asked;
};

} // namespace lathe

#endif // LATHE_RUNTIME_ARTIFACT_JSONFIELDS_H
