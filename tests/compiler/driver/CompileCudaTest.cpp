//===- CompileCudaTest.cpp - whole models for a GPU, without one ----------===//
//
// The kernels of Qwen3.6-27B, in every format, for two architectures: all of
// them compile, none spills, all can be launched, and a decode step has few of
// them. One layer of each kind stands for all. Needs NVRTC where it compiles.
//
//===----------------------------------------------------------------------===//

#include "compiler/driver/CompileCuda.h"

#include "compiler/cache/ObjectCache.h"
#include "compiler/driver/CheckpointModel.h"
#include "tests/compiler/nvrtc/FindNvrtc.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cstdlib>
#include <set>

namespace lathe {
namespace {

template <class T> T need(StatusOr<T> value) {
  if (!value.ok()) {
    ADD_FAILURE() << messageOf(value.status());
    std::abort();
  }
  return *std::move(value);
}

/// One layer of each kind.
constexpr char kLargeConfig[] = R"({
  "model_type": "qwen3_5_text",
  "hidden_size": 5120, "intermediate_size": 17408, "vocab_size": 248320,
  "num_hidden_layers": 2,
  "layer_types": ["linear_attention", "full_attention"],
  "num_attention_heads": 24, "num_key_value_heads": 4, "head_dim": 256,
  "linear_num_key_heads": 16, "linear_num_value_heads": 48,
  "linear_key_head_dim": 128, "linear_value_head_dim": 128,
  "rope_parameters": {"rope_type": "default", "rope_theta": 10000000.0,
                      "partial_rotary_factor": 0.25},
  "tie_word_embeddings": false, "max_position_embeddings": 262144})";
constexpr int kLayersOfEachKind = 2;

struct Weights {
  std::string name;
  WeightFormat format;
  int32_t group = 0;
  bool asymmetric = false;
};
const Weights kFormats[] = {{"Bf16", WeightFormat::BF16},
                            {"Int4", WeightFormat::Int4, 128},
                            {"Int4Asymmetric", WeightFormat::Int4, 128, true},
                            {"NvFp4", WeightFormat::NvFp4, 16}};

struct Case {
  Weights weights;
  std::string target;
  std::string form; ///< of activations
  bool halfKv;
  std::vector<int64_t> decodeTokens;
};

std::ostream &operator<<(std::ostream &stream, const Case &c) {
  return stream << c.weights.name << " " << c.target << " " << c.form
                << (c.halfKv ? " f16" : " f32") << " kv";
}

/// Every format with every architecture at eight tokens, which need the most.
/// The rest alternates: each form and each kind of KV cache meets both
/// architectures, and all formats meet a form and a kind each.
std::vector<Case> largeCases() {
  const std::vector<int64_t> tokens[] = {{1, 8}, {8}, {4, 8}, {8}};
  std::vector<Case> cases;
  for (size_t f = 0; f < std::size(kFormats); ++f)
    for (size_t t = 0; t < 2; ++t)
      cases.push_back({kFormats[f], t == 0 ? "sm_90a" : "sm_120f",
                       (f + t) % 2 == 0 ? "half" : "split",
                       (f / 2 + t) % 2 == 1, tokens[(f + t) % 4]});
  return cases;
}

/// As quantised checkpoints are: tables and the narrow projections stay dense.
StatusOr<WeightDesc> describe(const Weights &weights, std::string_view name,
                              int64_t rows, int64_t cols) {
  if (name == "embed_tokens" || name.ends_with("in_proj_a") ||
      name.ends_with("in_proj_b"))
    return WeightDesc{WeightFormat::BF16, rows, cols, 0, false};
  return WeightDesc{weights.format, rows, cols, weights.group,
                    weights.asymmetric};
}

CompileOptions optionsOf(const Case &c) {
  CompileOptions options;
  options.decodeTokens = c.decodeTokens;
  options.prefillTokens = 1024;
  options.prefillForm = c.form;
  options.decodeForm = c.form;
  options.halfKv = c.halfKv;
  options.threads = 2;
  return options;
}

/// CUDA launches of an entry.
int launchesOf(const Plan &plan, const PlannedEntry &entry) {
  int count = 0;
  for (const PlannedLaunch &launch : entry.launches)
    count += int(plan.kernels[size_t(launch.kernel)].stages.size());
  return count;
}

/// Of a step's trunk and head; the sampler and `advance` are four more.
void expectFewLaunches(const Plan &plan, int64_t tokens, int layers) {
  const PlannedEntry *trunk = plan.find("trunk", tokens);
  const PlannedEntry *head = plan.find("head", tokens);
  ASSERT_TRUE(trunk && head);
  EXPECT_FALSE(trunk->prefill) << tokens;
  // The embedding is one.
  EXPECT_LE(launchesOf(plan, *trunk) - 1, 6 * layers) << tokens;
  EXPECT_LE(launchesOf(plan, *head), 2) << tokens;
}

std::set<int32_t> decodeKernels(const Plan &plan) {
  std::set<int32_t> kernels;
  for (const PlannedEntry &entry : plan.entries)
    for (const PlannedLaunch &launch : entry.launches)
      if (!entry.prefill)
        kernels.insert(launch.kernel);
  return kernels;
}

class LargeModel : public testing::TestWithParam<Case> {};

TEST_P(LargeModel, Compiles) {
  auto nvrtc = findNvrtc();
  if (!nvrtc.ok())
    GTEST_SKIP() << messageOf(nvrtc.status());
  const Case &c = GetParam();
  auto cache = need(ObjectCache::open(LATHE_KERNEL_CACHE));
  const JsonDocument config =
      need(JsonDocument::parse(kLargeConfig, "config.json"));
  const ModelInput input{
      config.root(), false,
      [&](std::string_view name, int64_t rows, int64_t cols) {
        return describe(c.weights, name, rows, cols);
      }};
  CompileOptions options = optionsOf(c);
  options.cache = cache.get();
  // Checks every entry's registers, threads and shared memory.
  auto compiled =
      compileCuda(input, options, need(parseCudaTarget(c.target)), *nvrtc);
  ASSERT_TRUE(compiled.ok()) << messageOf(compiled.status());
  const Plan &plan = (*compiled)->plan;
  EXPECT_EQ((*compiled)->images.size(), plan.kernels.size() + 1);
  const std::set<int32_t> decode = decodeKernels(plan);
  for (size_t i = 0; i < plan.kernels.size(); ++i)
    for (const PlannedStage &stage : plan.kernels[i].stages) {
      EXPECT_GT(stage.registers, 0) << stage.entry;
      EXPECT_LE(stage.registers, kCudaRegistersPerThread) << stage.entry;
      EXPECT_EQ(stage.spillBytes, 0) << stage.entry;
      if (decode.contains(int32_t(i))) {
        EXPECT_EQ(stage.stackBytes, 0) << stage.entry;
      }
    }
  for (int64_t tokens : options.decodeTokens)
    expectFewLaunches(plan, tokens, kLayersOfEachKind);
}

INSTANTIATE_TEST_SUITE_P(All, LargeModel, testing::ValuesIn(largeCases()),
                         [](const auto &info) {
                           return info.param.weights.name + "_" +
                                  info.param.target;
                         });

/// The large model planned for SM_120's 36 multiprocessors, as code for the
/// GPU at hand.
CompileOptions profileOptions(std::vector<int64_t> tokens) {
  CompileOptions options;
  options.decodeTokens = std::move(tokens);
  options.prefillTokens = 1024;
  options.prefillForm = "half";
  options.halfKv = true;
  options.threads = 2;
  options.profile = "sm_120";
  options.sms = 36;
  return options;
}

ModelInput largeInput(const JsonDocument &config, const Weights &weights) {
  return {config.root(), false,
          [&](std::string_view name, int64_t rows, int64_t cols) {
            return describe(weights, name, rows, cols);
          }};
}

TEST(CudaProfile, EveryKernelIsPlannedWithinItsLimits) {
  const JsonDocument config =
      need(JsonDocument::parse(kLargeConfig, "config.json"));
  for (const Weights &weights : kFormats) {
    auto model = need(planModel(largeInput(config, weights),
                                profileOptions({1, 2, 4, 8}), "sm_90a"));
    const Plan &plan = model->plan;
    EXPECT_EQ(plan.target, "sm_90a");
    EXPECT_EQ(plan.profile.arch, "sm_120");
    EXPECT_EQ(plan.profile.sms, 36);
    const std::set<int32_t> decode = decodeKernels(plan);
    for (size_t i = 0; i < plan.kernels.size(); ++i)
      for (const PlannedStage &stage : plan.kernels[i].stages) {
        EXPECT_LE(stage.dynamicShared, 96 * 1024) << stage.entry;
        EXPECT_LE(stage.threads, 48 * 32) << stage.entry;
        // What fills its multiprocessor has a block on each.
        if (decode.contains(int32_t(i)) && stage.grain > 0) {
          EXPECT_LE(stage.blocks, 36) << stage.entry;
        }
      }
  }
}

TEST(CudaProfile, ItsKernelsAreCompiledForTheTarget) {
  auto nvrtc = findNvrtc();
  if (!nvrtc.ok())
    GTEST_SKIP() << messageOf(nvrtc.status());
  const JsonDocument config =
      need(JsonDocument::parse(kLargeConfig, "config.json"));
  CompileOptions options = profileOptions({4});
  auto cache = need(ObjectCache::open(LATHE_KERNEL_CACHE));
  options.cache = cache.get();
  // Checks every entry against the profile's limits.
  auto compiled = compileCuda(largeInput(config, kFormats[3]), options,
                              need(parseCudaTarget("sm_90a")), *nvrtc);
  ASSERT_TRUE(compiled.ok()) << messageOf(compiled.status());
  for (int32_t kernel : decodeKernels((*compiled)->plan))
    for (const PlannedStage &stage :
         (*compiled)->plan.kernels[size_t(kernel)].stages)
      EXPECT_EQ(stage.spillBytes, 0) << stage.entry;
}

/// A checkpoint of the tree, planned for a GPU.
class CheckpointPlan {
public:
  explicit CheckpointPlan(const std::string &directory)
      : checkpoint(need(Checkpoint::open(directory))),
        config(
            need(JsonDocument::parse(checkpoint.configText(), "config.json"))) {
  }

  std::unique_ptr<CompiledModel> plan(const CompileOptions &options,
                                      const std::string &target) {
    return need(planModel(inputOf(checkpoint, config.root()), options, target));
  }

private:
  Checkpoint checkpoint;
  JsonDocument config;
};

TEST(CudaPlan, TheDemoModelHasFewLaunches) {
  CheckpointPlan demo(LATHE_SOURCE_DIR "/models/demo");
  for (const char *target : {"sm_90", "sm_120f"}) {
    CompileOptions options;
    options.decodeTokens = {1, 2, 4, 8};
    options.prefillForm = "half";
    auto model = demo.plan(options, target);
    for (int64_t tokens : options.decodeTokens)
      expectFewLaunches(model->plan, tokens, 8);
  }
}

/// What the texts of a model's kernels come to, in order.
std::vector<std::string> textsOf(CheckpointPlan &checkpoint,
                                 const std::string &target) {
  std::vector<std::string> texts;
  CompileOptions options;
  options.decodeTokens = {1, 3};
  options.prefillForm = "split";
  options.mtp = true;
  options.dump = [&](std::string_view stage, std::string_view name,
                     std::string_view text) {
    if (stage == "cuda")
      texts.push_back(std::string(name) + "\n" + std::string(text));
  };
  checkpoint.plan(options, target);
  return texts;
}

/// The same text makes the same key of the cache, on any machine.
TEST(CudaText, IsTheSameEachTime) {
  for (const char *target : {"sm_90", "sm_120f"}) {
    CheckpointPlan first(LATHE_TEST_DATA "/golden/qwen3_5");
    CheckpointPlan second(LATHE_TEST_DATA "/golden/qwen3_5");
    const std::vector<std::string> texts = textsOf(first, target);
    EXPECT_GT(texts.size(), 10u);
    EXPECT_EQ(texts, textsOf(second, target));
    for (const std::string &text : texts) {
      EXPECT_EQ(text.find(LATHE_SOURCE_DIR), std::string::npos) << text;
      for (const char *mark : {"\"/", "/tmp/", "__DATE__", "__FILE__"})
        EXPECT_EQ(text.find(mark), std::string::npos) << mark << "\n" << text;
    }
  }
}

} // namespace
} // namespace lathe
