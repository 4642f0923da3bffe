#include "runtime/io/tokenizer/VocabReader.h"

#include <nlohmann/json.hpp>

namespace lathe {
namespace {

constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxMembers = 1024;

/// Receives the parser's events. A method returns false to stop the parser,
/// after it has set `status`.
class Reader {
public:
  Reader(TokenizerFile &file, Json &rest) : file(file), rest(rest) {}

  Status status;

  bool null() { return scalar(nullptr); }
  bool boolean(bool value) { return scalar(value); }
  bool number_float(double value, const std::string &) { return scalar(value); }
  bool binary(Json::binary_t &) { return false; }

  bool number_integer(int64_t value) {
    return place == Place::Vocab ? badId(std::to_string(value)) : scalar(value);
  }

  bool number_unsigned(uint64_t value) {
    if (place != Place::Vocab)
      return scalar(value);
    if (value > uint64_t(kMaxTokenId))
      return badId(std::to_string(value));
    file.vocab.push_back({token, int32_t(value)});
    return true;
  }

  bool string(std::string &value) {
    switch (place) {
    case Place::Tree:
      return insert(std::move(value)) != nullptr;
    case Place::Vocab:
      return badId("a string");
    case Place::Merges:
      return mergeString(value);
    case Place::Pair:
      if (pairSize == 2)
        return badMerge("more than two tokens");
      pair[pairSize++] = store(file.mergeText, value);
      return true;
    }
    return false;
  }

  bool key(std::string &value) {
    if (place == Place::Vocab) {
      token = store(file.text, value);
      return true;
    }
    if (open.back()->size() >= kMaxMembers)
      return fail("more than " + std::to_string(kMaxMembers) +
                  " members in one object");
    if (open.back()->contains(value))
      return fail("the key " + quoteToken(value) + " appears twice");
    memberKey = std::move(value);
    return true;
  }

  bool start_object(size_t) {
    if (place != Place::Tree)
      return scalar(nullptr);
    if (isModelMember("vocab"))
      place = Place::Vocab;
    return openContainer(Json::object());
  }

  bool end_object() { return close(); }

  bool start_array(size_t) {
    if (place == Place::Merges) {
      place = Place::Pair;
      pairSize = 0;
      return true;
    }
    if (place != Place::Tree)
      return scalar(nullptr);
    if (isModelMember("merges"))
      place = Place::Merges;
    return openContainer(Json::array());
  }

  bool end_array() {
    if (place != Place::Pair)
      return close();
    if (pairSize != 2)
      return badMerge("fewer than two tokens");
    file.merges.push_back({pair[0], pair[1]});
    place = Place::Merges;
    return true;
  }

  bool parse_error(size_t position, const std::string &,
                   const nlohmann::detail::exception &) {
    return fail("not valid JSON at byte " + std::to_string(position));
  }

private:
  enum class Place { Tree, Vocab, Merges, Pair };

  bool fail(const std::string &message) {
    status = modelError(file.name + ": " + message);
    return false;
  }

  bool badId(const std::string &found) {
    return fail("model.vocab: " + quoteToken(file.view(file.text, token)) +
                ": expected an id from 0 to " + std::to_string(kMaxTokenId) +
                ", found " + found);
  }

  bool badMerge(const std::string &found) {
    return fail("model.merges[" + std::to_string(file.merges.size()) +
                "]: expected two tokens, as \"a b\" or [\"a\", \"b\"], found " +
                found);
  }

  static TokenizerFile::Span store(std::string &text, std::string_view value) {
    TokenizerFile::Span span{uint32_t(text.size()), uint32_t(value.size())};
    text += value;
    return span;
  }

  /// "a b": one space, since the spelling of a token never contains one.
  bool mergeString(std::string_view value) {
    size_t space = value.find(' ');
    if (space == std::string_view::npos ||
        value.find(' ', space + 1) != std::string_view::npos)
      return badMerge(quoteToken(value));
    TokenizerFile::Span left = store(file.mergeText, value.substr(0, space));
    TokenizerFile::Span right = store(file.mergeText, value.substr(space + 1));
    file.merges.push_back({left, right});
    return true;
  }

  bool scalar(Json value) {
    switch (place) {
    case Place::Tree:
      return insert(std::move(value)) != nullptr;
    case Place::Vocab:
      return badId("another type");
    default:
      return badMerge("another type");
    }
  }

  bool isModelMember(std::string_view name) const {
    return open.size() == 2 && inModel && memberKey == name;
  }

  /// Adds `value` to the innermost open container.
  Json *insert(Json value) {
    if (open.empty()) {
      rest = std::move(value);
      return &rest;
    }
    Json &parent = *open.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[memberKey] = std::move(value));
  }

  bool openContainer(Json empty) {
    if (open.size() == kMaxDepth)
      return fail("nested deeper than " + std::to_string(kMaxDepth) +
                  " levels");
    if (open.size() == 1)
      inModel = rest.is_object() && memberKey == "model";
    open.push_back(insert(std::move(empty)));
    return true;
  }

  bool close() {
    place = Place::Tree;
    open.pop_back();
    return true;
  }

  TokenizerFile &file;
  Json &rest;
  std::vector<Json *> open;
  std::string memberKey;
  Place place = Place::Tree;
  bool inModel = false;
  TokenizerFile::Span token;
  TokenizerFile::Span pair[2];
  int pairSize = 0;
};

} // namespace

Status readTokenizerJson(std::string_view json, TokenizerFile &file,
                         Json &rest) {
  if (json.size() > uint64_t(kMaxJsonBytes))
    return modelError(file.name + ": " + std::to_string(json.size()) +
                      " bytes, the limit is " + std::to_string(kMaxJsonBytes));
  Reader reader(file, rest);
  file.text.reserve(json.size() / 4);
  file.mergeText.reserve(json.size() / 4);
  if (!Json::sax_parse(json.data(), json.data() + json.size(), &reader))
    return reader.status.ok() ? modelError(file.name + ": not valid JSON")
                              : reader.status;
  return absl::OkStatus();
}

} // namespace lathe
