//===- ModelFiles.h - where a model comes from ------------------*- C++ -*-===//
//
// A checkpoint, a config with synthetic weights, or a bundle that names one of
// the two. Needs no compiler.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TOOLS_INFER_MODELFILES_H
#define LATHE_TOOLS_INFER_MODELFILES_H

#include "tools/infer/Verbs.h"

#include "runtime/artifact/Bundle.h"
#include "runtime/io/Checkpoint.h"
#include "runtime/io/GenerationConfig.h"
#include "runtime/io/Json.h"
#include "runtime/io/tokenizer/Tokenizer.h"
#include "runtime/memory/WeightSource.h"

#include <memory>

namespace lathe::cli {

class ModelFiles {
public:
  /// Opens what the options name. Of a bundle, reads the target that `choose`
  /// accepts and checks that the checkpoint is the one it was made from.
  static StatusOr<std::unique_ptr<ModelFiles>> open(const ModelOptions &options,
                                                    const ChooseTarget &choose);

  bool isSynthetic() const { return !checkpoint; }
  /// The bundle, with its one target; null when the model is none.
  const Bundle *bundle() const { return bundled ? &*bundled : nullptr; }
  const JsonDocument &configDocument() const { return *config; }
  const Checkpoint *files() const {
    return checkpoint ? &*checkpoint : nullptr;
  }

  /// The storage format of a synthetic weight.
  StatusOr<WeightDesc> describeSynthetic(std::string_view module, int64_t rows,
                                         int64_t cols) const;
  std::unique_ptr<WeightSource> weights() const;
  StatusOr<GenerationConfig> generation() const;
  /// Nothing when the directory has no tokenizer.json.
  StatusOr<std::optional<Tokenizer>> tokenizer() const;

  /// What a bundle says of this model; the fields of the compiled model are
  /// left to the caller.
  StatusOr<BundleModel> describe() const;

private:
  ModelFiles() = default;
  Status openSynthetic(const std::string &path, const std::string &format,
                       const std::string &headFormat);
  Status openCheckpoint(const std::string &directory);
  Status openBundle(const ModelOptions &options, const ChooseTarget &choose);

  std::optional<Bundle> bundled;
  std::optional<JsonDocument> config;
  std::string configPath; ///< synthetic only
  std::string configText;
  std::optional<Checkpoint> checkpoint;
  WeightFormat format = WeightFormat::Int4;
  WeightFormat headFormat = WeightFormat::Int4;
};

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_MODELFILES_H
