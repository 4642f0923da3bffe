//===- FakeModel.h - CudaTestPlan.h on the fake driver ----------*- C++ -*-===//
//
// Images, parameters and kernels for it: kernels do nothing to rows, but the
// embedding notes what it is given, the sampler chooses a token by the position
// and `advance` advances.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_RUNTIME_ENGINE_FAKEMODEL_H
#define LATHE_TESTS_RUNTIME_ENGINE_FAKEMODEL_H

#include "runtime/base/CudaRound.h"
#include "runtime/base/CudaWeights.h"
#include "runtime/engine/CudaEngine.h"
#include "runtime/memory/SyntheticWeights.h"
#include "tests/runtime/cuda/CudaFixture.h"
#include "tests/runtime/engine/CudaTestPlan.h"

#include <memory>
#include <string>
#include <vector>

namespace lathe {

/// A launch as it was queued or captured.
struct SeenLaunch {
  std::string entry;
  unsigned blocks, rows, threads, shared;
  bool programmatic;
};

/// A launch of `pack` or `fill` as it ran, with the bytes that it would read.
struct SeenPack {
  std::string entry;
  LathePack pack;
  std::vector<uint8_t> data;
};

/// A token that the embedding was given, and its position.
struct SeenToken {
  int token, position;
  bool operator==(const SeenToken &) const = default;
};

class CudaModelTest : public cuda::CudaTest {
protected:
  void SetUp() override {
    config->kernels = [this](std::string_view entry,
                             const cuda::abi::LaunchConfig &shape,
                             void **arguments) {
      launches.push_back({std::string(entry), shape.gridX, shape.gridY,
                          shape.blockX, shape.dynamicSharedBytes,
                          shape.attributeCount == 1});
      return work(std::string(entry), arguments, int(shape.gridY));
    };
    engineOptions.context = 300;
    engineOptions.prefillChunk = kTestPrefill;
    context = makeContext();
  }

  StatusOr<std::unique_ptr<CudaEngine>> tryCreate() {
    return CudaEngine::create(*context, plan, images(), &source, engineOptions);
  }
  std::unique_ptr<CudaEngine> create() {
    auto engine = tryCreate();
    EXPECT_TRUE(engine.ok()) << messageOf(engine.status());
    context->resetCounters();
    launches.clear();
    return engine.ok() ? *std::move(engine) : nullptr;
  }

  CudaImages images() const {
    CudaImages images;
    images["runtime"] = cuda::fakeImage(
        90, {"advance", "deliver", "read", "nothing", "hold", "pack", "fill",
             "fill_floats", "fill_bf16", "sample_highest", "sample_weigh",
             "sample_choose", "round_row", "round_accept"});
    images["embed"] = cuda::fakeImage(90, {"embed"});
    images["layer"] = cuda::fakeImage(90, {"layer_0", "layer_1"});
    images["prefill"] = cuda::fakeImage(90, {"prefill"});
    images["logits"] = cuda::fakeImage(90, {"logits"});
    return images;
  }

  /// The choice of the fake sampler behind the token at `position`.
  static int32_t choiceAfter(int64_t position) {
    return int32_t((7 * position + 3) % kTestVocab);
  }

  Plan plan = cudaTestPlan();
  SyntheticWeights source;
  CudaEngineOptions engineOptions;
  std::unique_ptr<cuda::Context> context;
  std::vector<SeenLaunch> launches;
  std::vector<SeenPack> packs;
  std::vector<SeenToken> tokens;
  int sampleStatus = LATHE_SAMPLE_CHOSEN;

private:
  template <class T> static T argument(void **arguments, int i) {
    return *static_cast<T *>(arguments[i]);
  }

  /// As compiler/device/cuda/round.cu; shares are 0 or 1.
  static void accept(LatheRound &round, int *tokens, int drafts) {
    int accepted = 0;
    while (accepted < drafts &&
           (round.forcedCount > 0
                ? accepted < round.forcedCount && round.forced[accepted] > 0
                : tokens[accepted + 1] == round.choices[accepted]))
      ++accepted;
    const int last = round.choices[accepted];
    for (int i = 0; i < LATHE_REPLAY_TOKENS; ++i)
      round.chosen[i] = i < accepted ? tokens[i + 1] : last;
    round.accepted = accepted;
    tokens[0] = last;
    placeRound(round, round.trunk.position, drafts + 1);
  }

  /// Choices to the host, from arguments `first` on; returns the first one.
  static std::function<int()> delivery(void **arguments, int first) {
    auto from = argument<int *>(arguments, first);
    auto host = argument<int *>(arguments, first + 1);
    const int words = argument<int>(arguments, first + 2);
    return [=] {
      std::copy_n(from, words, host);
      return *from;
    };
  }

  std::function<void()> work(const std::string &entry, void **arguments,
                             int rows) {
    if (entry == "advance") {
      auto step = argument<LatheStep *>(arguments, 0);
      auto input = argument<int *>(arguments, 1);
      auto copy = delivery(arguments, 2);
      return [=] {
        *input = copy();
        step->position += 1;
        step->pending = 0;
      };
    }
    if (entry == "deliver")
      return [copy = delivery(arguments, 0)] { copy(); };
    if (entry == "round_accept") {
      auto round = argument<LatheRound *>(arguments, 0);
      auto ids = argument<int *>(arguments, 1);
      const int drafts = argument<int>(arguments, 2);
      auto host = argument<LatheRound *>(arguments, 3);
      return [=] {
        accept(*round, ids, drafts);
        *host = *round;
      };
    }
    if (entry == "pack" || entry == "fill") {
      auto pack = argument<LathePack>(arguments, 0);
      return [=, this] { packs.push_back({entry, pack, bytesOf(pack)}); };
    }
    if (entry != "embed" && entry != "sample_choose")
      return nullptr;
    const LatheStep *step = argument<LatheLaunch>(arguments, 0).step;
    if (entry == "embed") {
      auto ids = argument<const int *>(arguments, 1);
      return [=, this] {
        for (int i = 0; i < step->tokens; ++i)
          tokens.push_back({ids[i], step->position + i});
      };
    }
    auto token = argument<int *>(arguments, 3);
    auto status = argument<int *>(arguments, 4);
    return [=, this] {
      for (int r = 0; r < rows; ++r) {
        status[r] = sampleStatus;
        token[r] = sampleStatus == LATHE_SAMPLE_CHOSEN
                       ? choiceAfter(step->position + r)
                       : 0;
      }
    };
  }

  static std::vector<uint8_t> bytesOf(const LathePack &pack) {
    if (!pack.data)
      return {};
    const int64_t elements = int64_t(pack.rows) * pack.columns;
    int64_t bytes = elements / 2; // codes of four bits
    if (pack.format == int(CudaFormat::Half) ||
        pack.format == int(CudaFormat::Wide))
      bytes = elements * (pack.source == LATHE_PACK_F32 ? 4 : 2);
    return {pack.data, pack.data + bytes};
  }
};

} // namespace lathe

#endif // LATHE_TESTS_RUNTIME_ENGINE_FAKEMODEL_H
