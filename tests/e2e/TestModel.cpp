#include "tests/e2e/TestModel.h"

#include "compiler/driver/CheckpointModel.h"
#include "runtime/engine/DraftHeadWeights.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <numeric>

namespace lathe::e2e {

void die(const Status &status) {
  std::fprintf(stderr, "%s\n", messageOf(status).c_str());
  std::exit(1);
}

//===----------------------------------------------------------------------===//
// Goldens
//===----------------------------------------------------------------------===//

GoldenFile::GoldenFile(const std::string &path)
    : file(need(SafetensorsFile::open(path))) {}

const TensorInfo &GoldenFile::infoOf(const std::string &name) const {
  const TensorInfo *info = file.header().find(name);
  if (!info)
    die(modelError(file.name() + " has no tensor " + name));
  return *info;
}

std::vector<uint8_t> GoldenFile::bytesOf(const std::string &name) const {
  std::vector<uint8_t> bytes(infoOf(name).bytes());
  need(file.read(infoOf(name), 0, bytes));
  return bytes;
}

Ids GoldenFile::ids(const std::string &name) const {
  std::vector<uint8_t> bytes = bytesOf(name);
  Ids ids(bytes.size() / sizeof(int32_t));
  std::memcpy(ids.data(), bytes.data(), bytes.size());
  return ids;
}

Rows GoldenFile::rows(const std::string &name) const {
  std::vector<uint8_t> bytes = bytesOf(name);
  const int64_t width = infoOf(name).shape.back();
  Rows rows(int64_t(bytes.size() / sizeof(float)) / width, width);
  std::memcpy(rows.data.data(), bytes.data(), bytes.size());
  return rows;
}

//===----------------------------------------------------------------------===//
// Models
//===----------------------------------------------------------------------===//

TestModel::TestModel(const std::string &directory)
    : checkpoint(need(Checkpoint::open(directory))),
      config(need(JsonDocument::parse(checkpoint.configText(), "config.json"))),
      cache(need(ObjectCache::open(LATHE_E2E_CACHE))) {}

ModelInput TestModel::input() const {
  return inputOf(checkpoint, config.root());
}

std::unique_ptr<WeightSource> TestModel::weights() const {
  return weightsOf(checkpoint);
}

const CompiledModel &TestModel::compiled(const Build &build) {
  std::string key = build.form + (build.avx2 ? " avx2" : "");
  for (int64_t tokens : build.decodeTokens)
    key += " " + std::to_string(tokens);
  if (build.replay)
    key += " replay " + build.draftHead + std::to_string(build.draftVocab);
  std::unique_ptr<CompiledModel> &model = built[key];
  if (model)
    return *model;
  CompileOptions options;
  options.decodeTokens = build.decodeTokens;
  options.prefillForm = build.form;
  options.mtp = true;
  options.replay = build.replay;
  options.draftHead = build.draftHead;
  options.draftVocab = build.draftVocab;
  options.threads = 2;
  options.target = need(hostTarget(build.avx2));
  options.cache = cache.get();
  model = need(compileModel(input(), options));
  return *model;
}

std::unique_ptr<Engine> TestModel::engine(const Build &build, int threads,
                                          int64_t prefillChunk) {
  const CompiledModel &model = compiled(build);
  EngineOptions options;
  options.threads = threads;
  options.context = 512;
  options.prefillChunk = prefillChunk;
  auto source = weights();
  std::vector<int32_t> ids;
  if (const PlannedEntry *head = model.plan.find("draft_head", 1)) {
    ids.resize(size_t(head->outputs[0].width));
    std::iota(ids.begin(), ids.end(), 0);
  }
  auto withDraft = withDraftHead(*source, model.plan, ids);
  auto engine =
      need(CpuEngine::create(model.plan, *model.kernels, *withDraft, options));
  need(engine->setDraftIds(ids));
  return engine;
}

TestModel &tinyModel() {
  static TestModel model(LATHE_TEST_DATA "/golden/qwen3_5");
  return model;
}

TestModel &demoModel() {
  static TestModel model(LATHE_SOURCE_DIR "/models/demo");
  return model;
}

std::string demoBf16Directory() {
  return LATHE_SOURCE_DIR "/../shared/demo-model";
}

TestModel *demoBf16Model() {
  if (!std::filesystem::exists(demoBf16Directory() + "/model.safetensors"))
    return nullptr;
  static TestModel model(demoBf16Directory());
  return &model;
}

//===----------------------------------------------------------------------===//
// The reference
//===----------------------------------------------------------------------===//

ReferenceModel::ReferenceModel(const TestModel &test)
    : source(test.weights()), context(mlir::MLIRContext::Threading::DISABLED) {
  ModelInput input = test.input();
  models::WeightCatalog catalog = input.describe;
  model = need(models::buildModel(
      &context, {input.config, input.hasMtpWeights, catalog}));
}

StatusOr<const HostWeight *> ReferenceModel::weight(std::string_view name,
                                                    const WeightDesc &desc) {
  auto found = loaded.find(name);
  if (found != loaded.end())
    return &found->second;
  LATHE_ASSIGN_OR_RETURN(HostWeight host,
                         source->weight(std::string(name), desc));
  return &loaded.emplace(name, std::move(host)).first->second;
}

StatusOr<Rows> ReferenceModel::tensor(std::string_view name,
                                      llvm::ArrayRef<int64_t> shape) {
  LATHE_ASSIGN_OR_RETURN(
      std::vector<float> values,
      source->tensor(std::string(name), {shape.data(), shape.size()}));
  const int64_t rows = shape.size() == 1 ? 1 : shape[0];
  return Rows(rows, shape.back(), std::move(values));
}

std::vector<reference::Value>
ReferenceModel::call(const char *function, std::vector<reference::Value> args) {
  auto func = model.module->lookupSymbol<mlir::FunctionOpInterface>(function);
  for (size_t i = args.size(); i < func.getNumArguments(); ++i)
    args.push_back(reference::initialState(func.getArgumentTypes()[i]));
  return need(reference::run(func, std::move(args), *this));
}

Rows ReferenceModel::logits(const Ids &ids) {
  std::vector<reference::Value> trunk = call("trunk", {ids, int64_t(0)});
  return std::get<Rows>(call("head", {trunk[0]})[0]);
}

//===----------------------------------------------------------------------===//
// Running the engine
//===----------------------------------------------------------------------===//

void appendLogits(Engine &engine, std::span<const int32_t> ids, Rows &rows) {
  auto append = [&](RowsView batch) -> Status {
    rows.cols = batch.width;
    for (int64_t i = 0; i < batch.rows; ++i, ++rows.rows)
      rows.data.insert(rows.data.end(), batch.row(i).begin(),
                       batch.row(i).end());
    return absl::OkStatus();
  };
  need(engine.feed(
      ids, [&](RowsView hidden) { return engine.logits(hidden, append); }));
}

Rows logitsOf(Engine &engine, const Ids &ids) {
  need(engine.reset());
  Rows rows;
  appendLogits(engine, ids, rows);
  return rows;
}

std::map<std::string, std::vector<float>> statesOf(Engine &engine,
                                                   const Plan &plan) {
  std::map<std::string, std::vector<float>> states;
  for (const PlannedState &state : plan.states) {
    states[state.name] = need(engine.state(state.name));
  }
  return states;
}

Ids greedyText(Engine &engine, const Ids &prompt, int count, int32_t vocab) {
  need(engine.reset());
  Ids ids = prompt;
  std::span<const int32_t> next = ids;
  for (int i = 0; i < count; ++i) {
    need(engine.feed(next));
    std::span<const float> logits = need(engine.lastLogits()).row(0);
    auto best = std::max_element(logits.begin(), logits.begin() + vocab);
    ids.push_back(int32_t(best - logits.begin()));
    next = std::span<const int32_t>(ids).last(1);
  }
  return ids;
}

double maxDifference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size())
    return std::numeric_limits<double>::infinity();
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    double difference = std::fabs(double(a[i]) - double(b[i]));
    // Also when one of them is a NaN.
    if (!(difference <= most))
      most = std::isfinite(difference)
                 ? difference
                 : std::numeric_limits<double>::infinity();
  }
  return most;
}

Ids someIds(size_t count, int32_t vocab) {
  Ids ids(count);
  for (size_t i = 0; i < count; ++i)
    ids[i] = int32_t((i * i * 7 + i * 31 + 5) % size_t(vocab));
  return ids;
}

} // namespace lathe::e2e
