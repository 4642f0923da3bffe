//===- TestModel.h - whole models for the end-to-end tests ------*- C++ -*-===//
//
// Opens checkpoints, compiles them once per process, and runs them in the
// engine or in the reference interpreter. A failure of any step ends the
// process: nothing of what follows would mean anything.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_E2E_TESTMODEL_H
#define LATHE_TESTS_E2E_TESTMODEL_H

#include "compiler/cache/ObjectCache.h"
#include "compiler/driver/Compile.h"
#include "ir/reference/Interpreter.h"
#include "models/Registry.h"
#include "runtime/engine/CheckpointWeights.h"
#include "runtime/engine/CpuEngine.h"
#include "runtime/io/Checkpoint.h"

#include "mlir/IR/MLIRContext.h"

#include <map>
#include <optional>

namespace lathe::e2e {

/// One row of logits, or of anything else, per position.
using Rows = reference::Tensor;
using Ids = std::vector<int32_t>;

/// Ends the process when there is no value.
[[noreturn]] void die(const Status &status);
template <class T> T need(StatusOr<T> value) {
  if (!value.ok())
    die(value.status());
  return *std::move(value);
}
inline void need(const Status &status) {
  if (!status.ok())
    die(status);
}

/// The tensors of a golden file.
class GoldenFile {
public:
  explicit GoldenFile(const std::string &path);
  Ids ids(const std::string &name) const;
  /// The last dimension is the width; leading ones count as rows.
  Rows rows(const std::string &name) const;

private:
  std::vector<uint8_t> bytesOf(const std::string &name) const;
  const TensorInfo &infoOf(const std::string &name) const;
  SafetensorsFile file;
};

/// How a model is compiled. Tests share these to share compiled models.
struct Build {
  std::string form = "int15";
  bool avx2 = false;
  std::vector<int64_t> decodeTokens = {1, 2, 3, 4, 5, 8};
  bool replay = false;
  std::string draftHead{}; ///< as CompileOptions::draftHead
  int64_t draftVocab = -1; ///< as CompileOptions::draftVocab
};

class TestModel {
public:
  explicit TestModel(const std::string &directory);

  const CompiledModel &compiled(const Build &build);
  std::unique_ptr<Engine> engine(const Build &build, int threads = 1,
                                 int64_t prefillChunk = 256);
  ModelInput input() const;
  const Checkpoint &files() const { return checkpoint; }
  std::unique_ptr<WeightSource> weights() const;

private:
  Checkpoint checkpoint;
  JsonDocument config;
  std::unique_ptr<ObjectCache> cache;
  std::map<std::string, std::unique_ptr<CompiledModel>> built;
};

/// The tiny random checkpoint with BF16 weights.
TestModel &tinyModel();
/// models/demo, with INT4 weights.
TestModel &demoModel();
/// The demo model before quantisation; null where it is not at hand.
TestModel *demoBf16Model();
std::string demoBf16Directory();

/// The reference interpreter with a checkpoint's weights: one sequence.
class ReferenceModel : reference::WeightProvider {
public:
  explicit ReferenceModel(const TestModel &model);

  /// The logits of every position of `ids`, from the start of a sequence.
  Rows logits(const Ids &ids);

private:
  StatusOr<const HostWeight *> weight(std::string_view name,
                                      const WeightDesc &desc) override;
  StatusOr<Rows> tensor(std::string_view name,
                        llvm::ArrayRef<int64_t> shape) override;
  std::vector<reference::Value> call(const char *function,
                                     std::vector<reference::Value> args);

  std::unique_ptr<WeightSource> source;
  mlir::MLIRContext context;
  models::Model model;
  std::map<std::string, HostWeight, std::less<>> loaded;
};

/// Feeds `ids` to a fresh engine and returns the logits of every position.
Rows logitsOf(Engine &engine, const Ids &ids);
/// The same for more tokens of the sequence.
void appendLogits(Engine &engine, std::span<const int32_t> ids, Rows &rows);
/// Every state of `engine`, by name.
std::map<std::string, std::vector<float>> statesOf(Engine &engine,
                                                   const Plan &plan);

/// Prompt and greedy text of `count` tokens below `vocab`.
Ids greedyText(Engine &engine, const Ids &prompt, int count, int32_t vocab);

/// The largest |a - b|; infinity when the sizes differ or one is not finite.
double maxDifference(std::span<const float> a, std::span<const float> b);

/// Prompt ids that need no tokenizer, below `vocab`.
Ids someIds(size_t count, int32_t vocab);

} // namespace lathe::e2e

#endif // LATHE_TESTS_E2E_TESTMODEL_H
