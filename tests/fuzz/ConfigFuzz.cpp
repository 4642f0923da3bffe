// The input is taken for config.json, generation_config.json and a
// quantization_config, and walked with the typed getters.

#include "runtime/io/GenerationConfig.h"
#include "runtime/io/QuantConfig.h"

#include <cstdint>
#include <cstdlib>

using namespace lathe;

static void walk(const JsonValue &value) {
  (void)value.toInt(1, 1000);
  (void)value.toNumber();
  (void)value.toString();
  if (value.mismatch("something").ok())
    std::abort();
  if (auto elements = value.elements(); elements.ok())
    for (const JsonValue &element : *elements)
      walk(element);
  if (auto members = value.members(); members.ok())
    for (const auto &[key, member] : *members) {
      if (!value.get(key).ok())
        std::abort();
      walk(member);
    }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view text(reinterpret_cast<const char *>(data), size);
  auto document = JsonDocument::parse(text, "config.json");
  if (!document.ok())
    return 0;
  JsonValue root = document->root();
  walk(root);
  (void)parseQuantConfig(root);
  (void)parseGenerationConfig(root, &root);
  if (!root.isObject())
    return 0;
  if (auto section = findQuantConfig(root); section.ok() && *section)
    (void)parseQuantConfig(**section);
  return 0;
}
