//===- Qwen35.h - the Qwen3.5 / 3.6 dense hybrid ----------------*- C++ -*-===//
//
// Gated DeltaNet layers with a gated attention layer every few, SwiGLU MLPs
// and one multi-token-prediction (MTP) layer. The math follows the model code
// of Hugging Face transformers (models/qwen3_5) and, for the MTP layer, vLLM
// (qwen3_5_mtp): embedding first in the concatenation, trunk hidden after the
// final norm.
//
// Entry functions of the module:
//   @trunk(tokens, position, states...)         -> (hidden, states...)
//   @head(hidden)                               -> logits
//   @mtp(tokens, hidden, position, mtp.kv)      -> (hidden, mtp.kv)
// `hidden` is normalised by the final norm (by mtp.norm for @mtp), so @head
// serves both. @mtp exists when the config names an MTP layer.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_MODELS_QWEN3_5_QWEN35_H
#define LATHE_MODELS_QWEN3_5_QWEN35_H

#include "models/common/ModelBuilder.h"
#include "runtime/io/Json.h"

#include <vector>

namespace lathe::models {

struct Qwen35Config {
  int64_t vocab = 0, hidden = 0, intermediate = 0;
  std::vector<bool> fullAttention; ///< per layer: attention or DeltaNet
  int64_t heads = 0, kvHeads = 0, headDim = 0, rotaryDim = 0;
  int64_t keyHeads = 0, valueHeads = 0, keyDim = 0, valueDim = 0, taps = 0;
  double eps = 0, ropeTheta = 0;
  bool tiedHead = false;
  int64_t mtpLayers = 0;
  int64_t maxPositions = 0;
  bool halfKv = false; ///< not of the file: how the KV caches are stored
};

/// Reads the text model's fields from config.json (`qwen3_5` with text_config,
/// or `qwen3_5_text`). Errors: modelError naming the field.
StatusOr<Qwen35Config> parseQwen35(const JsonValue &config);

/// Builds the module. `hasMtp` says whether the MTP weights are there.
StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
buildQwen35(mlir::MLIRContext *context, const Qwen35Config &config, bool hasMtp,
            const WeightCatalog &catalog);

} // namespace lathe::models

#endif // LATHE_MODELS_QWEN3_5_QWEN35_H
