//===- Quantize.h - writing a four-bit checkpoint ---------------*- C++ -*-===//
//
// Reads a BF16, F16 or F32 checkpoint and writes a quantised one in a format
// that other tools read too:
//
//   Int4   AutoRound's auto_round:auto_gptq layout, symmetric
//   NvFp4  ModelOpt's weight-only NVFP4
//
// Weights are rounded to nearest with a search over scales. Quantised are the
// linears of the layers; norms, convolutions, routers, in_proj_a, in_proj_b,
// mtp.fc and vision towers stay as they are, and so does a linear whose
// columns the group does not divide or whose rows are no multiple of 8.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_QUANTIZE_H
#define LATHE_RUNTIME_IO_QUANTIZE_H

#include "runtime/base/Status.h"
#include "runtime/base/Weight.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace lathe {

struct QuantizeProgress {
  uint64_t bytesRead = 0;
  uint64_t bytesTotal = 0;
  std::string tensor; ///< the one just finished
};

struct QuantizeOptions {
  WeightFormat format = WeightFormat::Int4; ///< Int4 or NvFp4
  int group = 0;           ///< columns per scale; 0: 128 for Int4, 16 for NvFp4
  bool lmHead = false;     ///< the head; with tied embeddings the shared table
  bool embeddings = false; ///< the embedding table
  bool mtp = false;        ///< the linears of mtp.layers
  int threads = 1;
  uint64_t maxShardBytes = 4'000'000'000; ///< before a new shard is begun
  /// Called after each tensor, on the caller's thread; false cancels.
  std::function<bool(const QuantizeProgress &)> progress = {};
};

struct QuantizeSummary {
  int64_t modulesQuantized = 0;
  int64_t modulesKept = 0; ///< other matrices of the language model
  /// Linears that stay dense because their shape does not fit the format.
  std::vector<std::string> keptForShape;
  uint64_t bytesIn = 0; ///< weights only, as are bytesOut
  uint64_t bytesOut = 0;
  /// Squared error over squared norm of each module, averaged over modules.
  double meanRelativeSquaredError = 0;
};

/// Quantises the checkpoint in `source` into the new or empty directory
/// `destination`, and copies the tokenizer, generation settings, chat template
/// and licence. config.json is written last: without it the directory is not
/// taken for a model. Memory: one quantised module plus buffers.
///
/// usageError for bad options or a destination in use, modelError for a
/// damaged or already quantised source, cancelled when `progress` says so.
StatusOr<QuantizeSummary> quantizeCheckpoint(const std::string &source,
                                             const std::string &destination,
                                             const QuantizeOptions &options);

} // namespace lathe

#endif // LATHE_RUNTIME_IO_QUANTIZE_H
