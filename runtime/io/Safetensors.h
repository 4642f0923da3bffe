//===- Safetensors.h - the safetensors container ----------------*- C++ -*-===//
//
// Layout: u64 little-endian header length, a JSON header, then the tensors'
// bytes. The header maps each name to {dtype, shape, data_offsets: [begin,
// end]}, offsets counted from the end of the header; "__metadata__" maps
// strings to strings.
//
// The reader is strict: the tensors tile the data section with no overlap and
// no hole, every size is checked, a key appears once. Anything else is a
// modelError that names the file and the tensor.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_SAFETENSORS_H
#define LATHE_RUNTIME_IO_SAFETENSORS_H

#include "runtime/base/Status.h"
#include "runtime/io/File.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lathe {

enum class DType : uint8_t {
  F64,
  F32,
  F16,
  BF16,
  F8E4M3,
  F8E5M2,
  F8E8M0,
  I64,
  I32,
  I16,
  I8,
  U64,
  U32,
  U16,
  U8,
  Bool
};

/// The container's spelling, such as "BF16" or "F8_E4M3".
std::string_view nameOf(DType type);
std::optional<DType> parseDType(std::string_view name);
/// Bytes of one element.
int64_t byteSize(DType type);

/// "[2, 3]".
std::string shapeText(std::span<const int64_t> shape);

/// One tensor of a file.
struct TensorInfo {
  std::string name;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  uint64_t begin = 0; ///< first byte, from the start of the data section
  uint64_t end = 0;   ///< one past the last byte

  uint64_t bytes() const { return end - begin; }
};

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors; ///< in the order of their bytes
  std::vector<std::pair<std::string, std::string>> metadata;

  /// The tensor called `name`, or null. Linear; build a map for many lookups.
  const TensorInfo *find(std::string_view name) const;
};

inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

/// Checks and parses the JSON header (without its length) of a file whose data
/// section has `dataSize` bytes. `file` is the name that errors show.
StatusOr<SafetensorsHeader>
parseSafetensorsHeader(std::span<const uint8_t> headerJson, uint64_t dataSize,
                       std::string_view file);

/// A safetensors file open for reading. Concurrent reads are safe.
class SafetensorsFile {
public:
  static StatusOr<SafetensorsFile> open(const std::string &path);

  const SafetensorsHeader &header() const { return content; }
  /// The file's name, without folders.
  std::string name() const { return file.name(); }
  /// FNV-1a over the header's bytes.
  uint64_t headerHash() const { return hash; }

  /// Fills `out` with the bytes of `tensor` from byte `offset` of the tensor.
  Status read(const TensorInfo &tensor, uint64_t offset,
              std::span<uint8_t> out) const;

private:
  SafetensorsFile(File file, SafetensorsHeader header, uint64_t dataStart,
                  uint64_t hash);

  File file;
  SafetensorsHeader content;
  uint64_t dataStart;
  uint64_t hash;
};

/// What a SafetensorsWriter will hold.
struct TensorSpec {
  std::string name;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
};

/// Writes a file whose tensors are known beforehand; their bytes may come in
/// any order. The file appears under its name only when commit() succeeds.
class SafetensorsWriter {
public:
  /// Tensors are laid out by element size, then by name.
  static StatusOr<SafetensorsWriter>
  create(const std::string &path, std::vector<TensorSpec> tensors,
         const std::vector<std::pair<std::string, std::string>> &metadata);

  /// Writes the bytes of `name` from byte `offset` of the tensor.
  Status write(std::string_view name, uint64_t offset,
               std::span<const uint8_t> bytes);
  /// Fails when the bytes written do not add up to every tensor.
  Status commit();

private:
  SafetensorsWriter(AtomicFile file, std::string path, SafetensorsHeader header,
                    uint64_t dataStart);

  AtomicFile file;
  std::string path;
  SafetensorsHeader content;
  std::vector<std::pair<std::string_view, size_t>> byName;
  uint64_t dataStart;
  uint64_t written = 0;
};

/// 64-bit FNV-1a of `bytes`, continuing from `seed`. Not cryptographic.
uint64_t fnv1a(std::span<const uint8_t> bytes,
               uint64_t seed = 0xcbf29ce484222325);

} // namespace lathe

#endif // LATHE_RUNTIME_IO_SAFETENSORS_H
