#include "runtime/io/ModelHash.h"

#include "runtime/io/File.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

#include <xxhash.h>

namespace lathe {
namespace {

constexpr uint64_t kEnd = uint64_t(1) << 20;
constexpr uint64_t kPiece = uint64_t(64) << 10;
constexpr uint64_t kPieces = 16;
constexpr uint64_t kMaxConfigBytes = uint64_t(16) << 20;

/// XXH3 over records; the length goes in front of each, so that bytes cannot
/// move from one to the next unnoticed.
class Hasher {
public:
  Hasher() : state(XXH3_createState(), XXH3_freeState) {
    XXH3_128bits_reset(state.get());
  }

  void add(uint64_t number) {
    XXH3_128bits_update(state.get(), &number, sizeof number);
  }
  void add(std::string_view record) {
    add(uint64_t(record.size()));
    XXH3_128bits_update(state.get(), record.data(), record.size());
  }
  Status add(const File &file, uint64_t begin, uint64_t end) {
    std::vector<uint8_t> buffer(size_t(std::min(end - begin, kEnd)));
    while (begin < end) {
      std::span<uint8_t> part(buffer.data(),
                              size_t(std::min(end - begin, kEnd)));
      LATHE_RETURN_IF_ERROR(file.readAt(begin, part));
      XXH3_128bits_update(state.get(), part.data(), part.size());
      begin += part.size();
    }
    return absl::OkStatus();
  }

  std::string hex() const {
    XXH128_hash_t hash = XXH3_128bits_digest(state.get());
    char text[33];
    std::snprintf(text, sizeof text, "%016llx%016llx",
                  static_cast<unsigned long long>(hash.high64),
                  static_cast<unsigned long long>(hash.low64));
    return text;
  }

private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state;
};

Status addFile(Hasher &hasher, const std::string &path) {
  LATHE_ASSIGN_OR_RETURN(File file, File::open(path));
  hasher.add(file.name());
  hasher.add(file.size());
  // The checkpoint is open, so its headers are sound.
  uint64_t length = 0;
  uint8_t bytes[8];
  LATHE_RETURN_IF_ERROR(file.readAt(0, bytes));
  std::memcpy(&length, bytes, sizeof length);
  const uint64_t data = std::min(8 + length, file.size());
  LATHE_RETURN_IF_ERROR(hasher.add(file, 0, data));
  const uint64_t size = file.size() - data;
  if (size <= 2 * kEnd + kPieces * kPiece)
    return hasher.add(file, data, file.size());
  LATHE_RETURN_IF_ERROR(hasher.add(file, data, data + kEnd));
  const uint64_t inner = size - 2 * kEnd;
  for (uint64_t i = 0; i < kPieces; ++i) {
    uint64_t begin = data + kEnd + (inner - kPiece) / (kPieces - 1) * i;
    LATHE_RETURN_IF_ERROR(hasher.add(file, begin, begin + kPiece));
  }
  return hasher.add(file, file.size() - kEnd, file.size());
}

} // namespace

StatusOr<std::string> modelHash(const Checkpoint &checkpoint) {
  Hasher hasher;
  hasher.add(checkpoint.configText());
  const std::string side =
      joinPath(checkpoint.directory(), "hf_quant_config.json");
  if (fileExists(side)) {
    LATHE_ASSIGN_OR_RETURN(std::string text, readFile(side, kMaxConfigBytes));
    hasher.add(text);
  }
  for (const auto &file : checkpoint.tensors().files())
    LATHE_RETURN_IF_ERROR(
        addFile(hasher, joinPath(checkpoint.directory(), file->name())));
  return hasher.hex();
}

std::string configHash(std::string_view configText) {
  Hasher hasher;
  hasher.add(configText);
  return hasher.hex();
}

} // namespace lathe
