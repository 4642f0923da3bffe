#include "compiler/nvrtc/ImageCodec.h"

#include <cstdint>
#include <cstring>

namespace lathe {

namespace {

class Writer {
public:
  void number(int value) {
    auto word = static_cast<uint32_t>(value);
    bytes.append(reinterpret_cast<const char *>(&word), sizeof word);
  }
  void text(std::string_view value) {
    number(static_cast<int>(value.size()));
    bytes.append(value);
  }
  std::string bytes;
};

/// After a read beyond the end everything reads as empty and `ok` is false.
class Reader {
public:
  explicit Reader(std::string_view bytes) : rest(bytes) {}

  int number() {
    uint32_t word = 0;
    std::string_view raw = take(sizeof word);
    if (raw.size() == sizeof word)
      std::memcpy(&word, raw.data(), sizeof word);
    return static_cast<int>(word);
  }
  std::string text() {
    return std::string(take(static_cast<uint32_t>(number())));
  }
  bool ok() const { return valid; }
  bool atEnd() const { return rest.empty(); }

private:
  std::string_view take(size_t count) {
    if (count > rest.size()) {
      valid = false;
      return {};
    }
    std::string_view taken = rest.substr(0, count);
    rest.remove_prefix(count);
    return taken;
  }

  std::string_view rest;
  bool valid = true;
};

} // namespace

std::string encodeImage(const CompiledImage &image) {
  Writer out;
  out.text(image.cubin);
  out.text(image.log);
  out.number(static_cast<int>(image.resources.size()));
  for (const EntryResources &entry : image.resources) {
    out.text(entry.name);
    for (int value : {entry.registers, entry.spillBytes, entry.stackBytes,
                      entry.staticShared})
      out.number(value);
  }
  return std::move(out.bytes);
}

std::optional<CompiledImage> decodeImage(std::string_view bytes) {
  Reader in(bytes);
  CompiledImage image;
  image.cubin = in.text();
  image.log = in.text();
  for (int count = in.number(); count > 0 && in.ok(); --count) {
    EntryResources entry;
    entry.name = in.text();
    for (int *value : {&entry.registers, &entry.spillBytes, &entry.stackBytes,
                       &entry.staticShared})
      *value = in.number();
    image.resources.push_back(std::move(entry));
  }
  if (!in.ok() || !in.atEnd())
    return std::nullopt;
  return image;
}

} // namespace lathe
