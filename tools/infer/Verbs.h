//===- Verbs.h - the verbs of infer and their options -----------*- C++ -*-===//

#ifndef LATHE_TOOLS_INFER_VERBS_H
#define LATHE_TOOLS_INFER_VERBS_H

#include "runtime/base/Status.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lathe::cli {

/// Which model, and how to compile and run it.
struct ModelOptions {
  std::string directory;       ///< a checkpoint or a bundle
  std::string checkpoint;      ///< of a bundle, if it has moved
  std::string synthetic;       ///< a config.json instead of a directory
  std::string format = "int4"; ///< of synthetic weights
  std::string headFormat;      ///< of a synthetic head; empty: as `format`
  std::string graph;           ///< .mlir file instead of the family's graph
  int64_t context = 0;         ///< 0: the model's, at most 4096
  int threads = 0;             ///< 0: one per core
  std::string isa;             ///< "", "avx512" or "avx2"
  std::string cacheDirectory;  ///< "": the user's cache folder
  bool noCache = false;
  std::string device = "auto"; ///< "auto", "cpu", "cuda" or "cuda:N"
  std::string kv;              ///< "f16" or "f32"; "": f16 on a GPU
  std::vector<int64_t> decodeTokens = {1};
  int64_t prefillChunk = 0;          ///< 0: 256 on the CPU, 1024 on a GPU
  std::string prefillForm = "mixed"; ///< see passes/Passes.td
  std::string decodeForm = "mixed";  ///< likewise; on a GPU
  std::vector<std::string> dump;     ///< stage, folder
  bool strict = false;
  std::string entry = "launches"; ///< GPU: "auto", "launches" or "persistent"
  std::string profile;    ///< GPU: a CUDA architecture whose limits plans keep
  int profileSms = 0;     ///< its multiprocessors; 0: a common card's
  bool noOverlap = false; ///< GPU: kernels strictly one after another
  std::string spec = "none"; ///< see runtime/engine/Speculator.h
  /// "full", "int8", "int4", "nvfp4"; "": by the head's bits
  std::string draftHead;
  std::string draftVocab; ///< a count or a file of ids; "": by cost
  bool quiet = false;
};

struct RunOptions {
  ModelOptions model;
  std::optional<std::string> prompt;
  std::string promptFile, tokenIds, logitsFile, statesFile;
  int64_t maxTokens = -1;
  std::optional<float> temperature, topP, minP;
  std::optional<int> topK;
  std::optional<uint64_t> seed;
  std::vector<std::string> stops;
  bool json = false, special = false, ignoreEos = false;
};

struct BenchOptions {
  ModelOptions model;
  std::vector<int64_t> promptTokens = {512}, decodeTokens = {64}, depths = {0};
  std::vector<int64_t> stepTokens = {1, 2, 3, 4, 5, 6, 7, 8}; ///< GPU only
  int repetitions = 3;
  std::vector<double> accept; ///< forced acceptance; empty: as it comes
  bool json = false, ledger = false;
  std::string ledgerPage; ///< GPU: write the ledger as HTML here too
  bool markdown = true;   ///< what `json` is not
};

struct PlanOptions {
  ModelOptions model;
  std::string target; ///< an architecture that need not be there; empty: the
                      ///< device's
  bool json = false;
};

struct CompileCommand {
  ModelOptions model;
  std::string output;
  std::vector<std::string> targets;
};

struct InspectOptions {
  std::string bundle;
  bool json = false;
};

struct DevicesOptions {
  bool json = false;
};

struct TuneVocabCommand {
  std::string model, output;
  std::vector<std::string> texts;
  int64_t size = 32768;
};

struct QuantizeCommand {
  std::string source, destination, format = "int4";
  int64_t group = 128;
  bool head = false, embeddings = false, mtp = false;
  int threads = 0;
};

Status run(const RunOptions &options);
Status bench(const BenchOptions &options);
Status plan(const PlanOptions &options);
Status quantize(const QuantizeCommand &options);
Status compile(const CompileCommand &options);
Status inspect(const InspectOptions &options);
Status devices(const DevicesOptions &options);
Status tuneVocab(const TuneVocabCommand &options);

/// OK unless --profile and --sms ask for what cannot be: usageError.
Status checkProfile(const ModelOptions &options);

/// Most prompt tokens at once; usageError when the options ask for a number
/// out of range.
StatusOr<int64_t> prefillChunkOf(const ModelOptions &options, bool cpu);

} // namespace lathe::cli

#endif // LATHE_TOOLS_INFER_VERBS_H
