//===- TensorTable.h - a checkpoint's tensors by canonical name -*- C++ -*-===//
//
// Canonical names drop what differs between exporters: a leading "model.",
// "model.language_model." or "language_model.model." is removed, so that a
// layer is always "layers.0...". "lm_head." and "mtp." stay; the tensors of
// vision and audio towers are left out.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_TENSORTABLE_H
#define LATHE_RUNTIME_IO_TENSORTABLE_H

#include "runtime/base/Status.h"
#include "runtime/io/Safetensors.h"

#include "absl/container/flat_hash_map.h"

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

/// The canonical form of a tensor name; nothing for a tensor that a language
/// model does not use.
std::optional<std::string> canonicalName(std::string_view name);

/// A tensor and the file that holds it.
struct TensorRef {
  const SafetensorsFile *file = nullptr;
  const TensorInfo *info = nullptr;

  Status read(uint64_t offset, std::span<uint8_t> out) const {
    return file->read(*info, offset, out);
  }
  /// modelError "<file>: <tensor>: <message>".
  Status error(std::string_view message) const;
  /// Fails unless the tensor has this type and shape.
  Status expect(DType dtype, std::span<const int64_t> shape) const;
};

/// Every tensor of a checkpoint's shards. Immutable and thread-safe.
class TensorTable {
public:
  /// Opens model.safetensors, or the shards that model.safetensors.index.json
  /// lists. Fails when a shard is missing, an index disagrees with its shards,
  /// or two tensors share a canonical name.
  static StatusOr<TensorTable> open(const std::string &directory);

  /// The tensor with this canonical name, or null.
  const TensorRef *find(std::string_view name) const;
  /// As find, but a missing tensor is a modelError.
  StatusOr<TensorRef> get(std::string_view name) const;

  /// The shards, in file-name order; their tensors keep their own names.
  std::span<const std::unique_ptr<SafetensorsFile>> files() const {
    return shards;
  }
  /// The canonical names, sorted.
  std::vector<std::string> names() const;

private:
  Status addFile(const std::string &directory, const std::string &name);
  Status openShards(const std::string &directory);

  std::vector<std::unique_ptr<SafetensorsFile>> shards;
  absl::flat_hash_map<std::string, TensorRef> tensors;
};

} // namespace lathe

#endif // LATHE_RUNTIME_IO_TENSORTABLE_H
