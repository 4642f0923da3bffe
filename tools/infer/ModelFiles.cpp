#include "tools/infer/ModelFiles.h"

#include "runtime/engine/CheckpointWeights.h"
#include "runtime/io/ModelHash.h"
#include "runtime/memory/SyntheticWeights.h"

#include <filesystem>
#include <fstream>
#include <iterator>

namespace lathe::cli {

static StatusOr<WeightFormat> parseFormat(const std::string &name) {
  for (WeightFormat format :
       {WeightFormat::F32, WeightFormat::F16, WeightFormat::BF16,
        WeightFormat::Int4, WeightFormat::NvFp4})
    if (name == nameOf(format))
      return format;
  return usageError("--format: expected f32, f16, bf16, int4 or nvfp4, found " +
                    name);
}

Status ModelFiles::openSynthetic(const std::string &path,
                                 const std::string &formatName,
                                 const std::string &headName) {
  LATHE_ASSIGN_OR_RETURN(format, parseFormat(formatName));
  LATHE_ASSIGN_OR_RETURN(headFormat,
                         parseFormat(headName.empty() ? formatName : headName));
  configPath = std::filesystem::absolute(path);
  if (!configText.empty()) {
    LATHE_ASSIGN_OR_RETURN(config, JsonDocument::parse(configText, path));
    return absl::OkStatus();
  }
  LATHE_ASSIGN_OR_RETURN(config, JsonDocument::read(path));
  std::ifstream file(path, std::ios::binary);
  configText.assign(std::istreambuf_iterator<char>(file), {});
  return absl::OkStatus();
}

Status ModelFiles::openCheckpoint(const std::string &directory) {
  LATHE_ASSIGN_OR_RETURN(checkpoint, Checkpoint::open(directory));
  configText = checkpoint->configText();
  LATHE_ASSIGN_OR_RETURN(
      config, JsonDocument::parse(configText, directory + "/config.json"));
  return absl::OkStatus();
}

Status ModelFiles::openBundle(const ModelOptions &options,
                              const ChooseTarget &choose) {
  LATHE_ASSIGN_OR_RETURN(bundled, readBundle(options.directory, choose));
  const BundleModel &model = bundled->model;
  if (model.source == ModelSource::Synthetic) {
    configText = model.config;
    return openSynthetic(model.path, model.format, model.headFormat);
  }
  const std::string directory =
      options.checkpoint.empty() ? model.path : options.checkpoint;
  if (!std::filesystem::exists(directory))
    return modelError(options.directory + ": the checkpoint " + directory +
                      " is gone; name its new place with --model");
  LATHE_RETURN_IF_ERROR(openCheckpoint(directory));
  LATHE_ASSIGN_OR_RETURN(std::string hash, modelHash(*checkpoint));
  if (hash != model.hash)
    return modelError(options.directory + ": expected the model with hash " +
                      model.hash + ", found " + hash + " in " + directory +
                      "; compile it again with infer compile");
  return absl::OkStatus();
}

StatusOr<std::unique_ptr<ModelFiles>>
ModelFiles::open(const ModelOptions &options, const ChooseTarget &choose) {
  std::unique_ptr<ModelFiles> files(new ModelFiles);
  if (!options.synthetic.empty())
    LATHE_RETURN_IF_ERROR(files->openSynthetic(
        options.synthetic, options.format, options.headFormat));
  else if (isBundle(options.directory))
    LATHE_RETURN_IF_ERROR(files->openBundle(options, choose));
  else
    LATHE_RETURN_IF_ERROR(files->openCheckpoint(options.directory));
  return files;
}

/// Everything is quantised but what quantisers leave alone: embeddings that
/// are not the head, and projections of a few rows.
StatusOr<WeightDesc> ModelFiles::describeSynthetic(std::string_view module,
                                                   int64_t rows,
                                                   int64_t cols) const {
  WeightDesc desc{format, rows, cols, 0, false};
  LATHE_ASSIGN_OR_RETURN(auto text, config->root().find("text_config"));
  LATHE_ASSIGN_OR_RETURN(
      bool rootTied, config->root().getBoolOr("tie_word_embeddings", false));
  LATHE_ASSIGN_OR_RETURN(bool tied,
                         (text ? *text : config->root())
                             .getBoolOr("tie_word_embeddings", rootTied));
  bool embedding = module == "embed_tokens";
  if (module == "lm_head" || (embedding && tied))
    desc.format = headFormat;
  else if (embedding || rows < 128 || cols % 32 != 0)
    desc.format = WeightFormat::BF16;
  if (desc.format == WeightFormat::NvFp4)
    desc.group = 16;
  if (desc.format == WeightFormat::Int4)
    desc.group = cols % 128 == 0 ? 128 : cols % 64 == 0 ? 64 : 32;
  return desc;
}

std::unique_ptr<WeightSource> ModelFiles::weights() const {
  if (checkpoint)
    return weightsOf(*checkpoint);
  return std::make_unique<SyntheticWeights>();
}

StatusOr<GenerationConfig> ModelFiles::generation() const {
  if (checkpoint)
    return readGenerationConfig(checkpoint->directory());
  return parseGenerationConfig(config->root(), nullptr);
}

StatusOr<std::optional<Tokenizer>> ModelFiles::tokenizer() const {
  if (!checkpoint)
    return std::optional<Tokenizer>();
  std::string path = checkpoint->directory() + "/tokenizer.json";
  if (!std::filesystem::exists(path))
    return std::optional<Tokenizer>();
  LATHE_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::load(path));
  return std::optional<Tokenizer>(std::move(tokenizer));
}

StatusOr<BundleModel> ModelFiles::describe() const {
  BundleModel model;
  model.config = configText;
  if (checkpoint) {
    model.path = std::filesystem::canonical(checkpoint->directory());
    LATHE_ASSIGN_OR_RETURN(model.hash, modelHash(*checkpoint));
    return model;
  }
  model.source = ModelSource::Synthetic;
  model.path = configPath;
  model.hash = configHash(configText);
  model.format = nameOf(format);
  model.headFormat = nameOf(headFormat);
  return model;
}

} // namespace lathe::cli
