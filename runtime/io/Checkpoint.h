//===- Checkpoint.h - a model directory -------------------------*- C++ -*-===//
//
// Opens a Hugging Face model directory and hands out its weights in canonical
// form, whatever format they have on disk. Formats: docs/checkpoints.md.
//
// Names are canonical: "layers.0.mlp.up_proj", "embed_tokens", "norm.weight",
// "lm_head", "mtp.fc" (TensorTable.h). A *module* is a name without its last
// part: the module "lm_head" may be the tensor "lm_head.weight", or
// "lm_head.qweight" and its companions.
//
// A damaged or unsupported file is a modelError that names the file and the
// tensor, what was expected and what was found. Nothing is cached and no
// weight is kept: each read reads the disk. All methods are thread-safe.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_CHECKPOINT_H
#define LATHE_RUNTIME_IO_CHECKPOINT_H

#include "runtime/base/Status.h"
#include "runtime/base/Weight.h"
#include "runtime/io/QuantConfig.h"
#include "runtime/io/TensorTable.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

class Checkpoint {
public:
  /// Reads config.json, hf_quant_config.json and the headers of every shard.
  static StatusOr<Checkpoint> open(const std::string &directory);

  const std::string &directory() const { return path; }
  /// The text of config.json; parse it with the name "config.json".
  const std::string &configText() const { return config; }
  const QuantConfig &quantization() const { return quant; }
  /// The tensors by canonical name, and the shards.
  const TensorTable &tensors() const { return table; }

  bool hasTensor(std::string_view name) const;
  /// Whether `module` has a weight in any format.
  bool hasModule(std::string_view module) const;

  /// The shape and format of a module's weight. Checks the shapes and types of
  /// its tensors and reads the small ones (zero points, g_idx).
  StatusOr<WeightDesc> describe(const std::string &module) const;

  /// The weight [rows, cols] of a linear or an embedding. Peak memory is the
  /// result plus a few megabytes.
  StatusOr<HostWeight> readWeight(const std::string &module, int64_t rows,
                                  int64_t cols) const;

  /// A BF16, F16 or F32 tensor of this shape as floats.
  StatusOr<std::vector<float>> readTensor(const std::string &name,
                                          std::span<const int64_t> shape) const;

  /// A hash of config.json and of every tensor's name, type, shape and place:
  /// the key for what depends on the model's form, not on its values.
  uint64_t identity() const { return hash; }

private:
  enum class Layout : uint8_t { Missing, Dense, Gptq, NvFp4 };

  explicit Checkpoint(TensorTable table) : table(std::move(table)) {}
  Layout layoutOf(const std::string &module) const;
  Status readQuantConfig();

  std::string path;
  std::string config;
  QuantConfig quant;
  TensorTable table;
  uint64_t hash = 0;
};

} // namespace lathe

#endif // LATHE_RUNTIME_IO_CHECKPOINT_H
