//===- CudaEngineTest.cpp - what the engine asks of a GPU -----------------===//

#include "tests/runtime/engine/FakeModel.h"

#include <algorithm>

namespace lathe {
namespace {

using cuda::Counters;

class CudaEngineTest : public CudaModelTest {
protected:
  std::vector<std::string> entries() const {
    std::vector<std::string> names;
    for (const SeenLaunch &launch : launches)
      names.push_back(launch.entry);
    return names;
  }
};

const std::vector<int32_t> kPrompt = {3, 1, 4, 1, 5, 9, 2, 6, 5, 35};

std::vector<int32_t> promptOf(size_t count) {
  std::vector<int32_t> prompt;
  for (size_t i = 0; i < count; ++i)
    prompt.push_back(int32_t(i * 13 % kTestVocab));
  return prompt;
}

TEST_F(CudaEngineTest, AStepIsOneGraphAndOneWait) {
  auto engine = create();
  ASSERT_TRUE(engine->feed(kPrompt).ok());
  auto token = engine->sample();
  ASSERT_TRUE(token.ok()) << token.status();
  EXPECT_EQ(*token, choiceAfter(9));

  const int allocated = state->allocations;
  const int alive = state->alive();
  for (int i = 0; i < 100; ++i) {
    const int executed = state->launches;
    context->resetCounters();
    launches.clear();
    token = engine->step(*token);
    ASSERT_TRUE(token.ok()) << token.status();
    EXPECT_EQ(*token, choiceAfter(10 + i));
    const Counters counters = context->counters();
    EXPECT_EQ(counters.graphLaunches, 1u);
    EXPECT_EQ(counters.synchronizations, 1u);
    EXPECT_EQ(counters.allocations + counters.frees, 0u);
    EXPECT_EQ(counters.graphInstantiations, 0u);
    EXPECT_EQ(counters.launches, 0u) << "outside the graph";
    // Afterwards the GPU knows its token and position by itself.
    EXPECT_EQ(counters.hostToDeviceCopies, i == 0 ? 2u : 0u);
    EXPECT_LE(counters.hostToDeviceBytes, 16u);
    EXPECT_EQ(counters.deviceToHostCopies, 0u) << "outside the graph";
    EXPECT_TRUE(launches.empty());
    EXPECT_EQ(state->launches - executed,
              kTestTrunkLaunches + kTestHeadLaunches + 3 + 1);
  }
  EXPECT_EQ(state->allocations, allocated);
  EXPECT_EQ(state->alive(), alive);
  EXPECT_EQ(engine->position(), 110);
}

TEST_F(CudaEngineTest, AStepFeedsItsTokenAtItsPosition) {
  auto engine = create();
  ASSERT_TRUE(engine->feed(kPrompt).ok());
  tokens.clear();
  EXPECT_EQ(*engine->step(17), choiceAfter(10));
  EXPECT_EQ(*engine->step(choiceAfter(10)), choiceAfter(11));
  // Another token than the one chosen.
  context->resetCounters();
  EXPECT_EQ(*engine->step(18), choiceAfter(12));
  EXPECT_EQ(context->counters().hostToDeviceCopies, 1u);
  // Tokens that the step graph did not see.
  ASSERT_TRUE(engine->feed({{19, 20}}).ok());
  EXPECT_EQ(*engine->step(choiceAfter(12)), choiceAfter(15));
  engine->skipTo(200);
  EXPECT_EQ(*engine->step(21), choiceAfter(200));
  ASSERT_TRUE(engine->reset().ok());
  EXPECT_EQ(*engine->step(22), choiceAfter(0));
  const std::vector<SeenToken> expected = {
      {17, 10}, {choiceAfter(10), 11}, {18, 12},  {19, 13},
      {20, 14}, {choiceAfter(12), 15}, {21, 200}, {22, 0}};
  EXPECT_EQ(tokens, expected);
}

TEST_F(CudaEngineTest, LaunchesOverlapUnlessToldNotTo) {
  for (bool programmatic : {true, false}) {
    engineOptions.programmatic = programmatic;
    launches.clear();
    auto engine = tryCreate();
    ASSERT_TRUE(engine.ok());
    auto embed = std::ranges::find(launches, "embed", &SeenLaunch::entry);
    ASSERT_NE(embed, launches.end());
    EXPECT_FALSE(embed->programmatic) << "it follows copies";
    for (const char *entry : {"layer_0", "layer_1", "logits", "sample_highest",
                              "sample_weigh", "sample_choose"}) {
      auto found = std::ranges::find(launches, entry, &SeenLaunch::entry);
      ASSERT_NE(found, launches.end()) << entry;
      EXPECT_EQ(found->programmatic, programmatic) << entry;
    }
  }
}

TEST_F(CudaEngineTest, APromptIsLaunchedInChunks) {
  auto engine = create();
  const std::vector<int32_t> prompt = promptOf(2 * kTestPrefill + 9);
  const int allocated = state->allocations;
  ASSERT_TRUE(engine->feed(prompt).ok());
  const Counters counters = context->counters();
  EXPECT_EQ(counters.launches, 3u * 2);
  EXPECT_EQ(counters.graphLaunches, 0u);
  EXPECT_EQ(counters.synchronizations, 0u);
  EXPECT_EQ(counters.allocations + counters.frees, 0u);
  EXPECT_EQ(counters.graphInstantiations, 0u);
  EXPECT_EQ(counters.hostToDeviceCopies, 3u * 2);
  EXPECT_EQ(state->allocations, allocated);
  EXPECT_EQ(engine->hidden().rows, 9);
  EXPECT_EQ(engine->position(), int64_t(prompt.size()));

  ASSERT_EQ(launches.size(), 6u);
  EXPECT_EQ(launches[0].entry, "embed");
  EXPECT_EQ(launches[0].rows, unsigned(kTestPrefill)) << "one block per token";
  EXPECT_EQ(launches[1].entry, "prefill");
  EXPECT_EQ(launches[1].blocks, 3u);
  EXPECT_EQ(launches[1].rows, 2u);
  EXPECT_EQ(launches[1].threads, 512u);
  EXPECT_EQ(launches[1].shared, 1024u);
  EXPECT_EQ(launches[5].rows, 1u) << "9 tokens are one block's";
  ASSERT_EQ(tokens.size(), prompt.size());
  for (size_t i = 0; i < prompt.size(); ++i)
    EXPECT_EQ(tokens[i], (SeenToken{prompt[i], int(i)}));
}

TEST_F(CudaEngineTest, DecodeEntriesAreCapturedOnce) {
  auto engine = create();
  const int allocated = state->allocations;
  for (int i = 0; i < 5; ++i)
    ASSERT_TRUE(engine->feed({{1, 2, 3, 4}}).ok());
  EXPECT_EQ(context->counters().graphInstantiations, 1u);
  EXPECT_EQ(context->counters().graphLaunches, 5u);
  EXPECT_EQ(entries(),
            (std::vector<std::string>{"embed", "layer_0", "layer_1"}));
  EXPECT_EQ(state->allocations, allocated);
  EXPECT_EQ(tokens.back(), (SeenToken{4, 19}));
}

/// As late as a GPU can be: what the host sends must be there still.
TEST_F(CudaEngineTest, NothingOnItsWayIsOverwritten) {
  config->deferred = true;
  auto engine = create();
  const std::vector<int32_t> prompt = promptOf(250);
  // Two slots a token: the ring is used up several times.
  for (int32_t id : prompt)
    ASSERT_TRUE(engine->feed({&id, 1}).ok());
  EXPECT_LE(context->counters().synchronizations, 250u * 2 / 64);
  auto token = engine->sample();
  ASSERT_TRUE(token.ok());
  EXPECT_EQ(*token, choiceAfter(249));
  for (int i = 0; i < 20; ++i) {
    // Chosen or not, with settings sent in between.
    ASSERT_TRUE(engine->setSampling({}, 0).ok());
    token = engine->step(i % 3 ? *token : 5);
    ASSERT_TRUE(token.ok());
    EXPECT_EQ(*token, choiceAfter(250 + i));
  }
  ASSERT_EQ(tokens.size(), 270u);
  for (size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_EQ(tokens[i].position, int(i));
    if (i < prompt.size()) {
      EXPECT_EQ(tokens[i].token, prompt[i]);
    }
  }
}

TEST_F(CudaEngineTest, SendsMoreIdsThanASlotHolds) {
  constexpr int64_t most = 10000;
  plan.entries[2] = cudaTestTrunk(most, true, 2);
  engineOptions.context = 30000;
  engineOptions.prefillChunk = most;
  config->deferred = true;
  auto engine = create();
  const std::vector<int32_t> prompt = promptOf(25000);
  ASSERT_TRUE(engine->feed(prompt).ok());
  ASSERT_TRUE(engine->sample().ok());
  ASSERT_EQ(tokens.size(), prompt.size());
  for (size_t i = 0; i < tokens.size(); ++i)
    ASSERT_EQ(tokens[i], (SeenToken{prompt[i], int(i)}));
}

TEST_F(CudaEngineTest, LogitsComeToTheHostInBatches) {
  auto engine = create();
  ASSERT_TRUE(engine->feed(promptOf(20)).ok());
  context->resetCounters();
  std::vector<int64_t> batches;
  ASSERT_TRUE(engine
                  ->logits(engine->hidden(),
                           [&](RowsView rows) {
                             EXPECT_EQ(rows.width, kTestVocab);
                             batches.push_back(rows.rows);
                             return absl::OkStatus();
                           })
                  .ok());
  EXPECT_EQ(batches, (std::vector<int64_t>{8, 8, 4}));
  EXPECT_EQ(context->counters().synchronizations, 3u);
  EXPECT_EQ(context->counters().allocations, 0u);
}

TEST_F(CudaEngineTest, ResetZeroesEveryState) {
  auto engine = create();
  const std::byte *base = reinterpret_cast<const std::byte *>(
                      engine->hidden().data),
                  *unset = nullptr;
  EXPECT_EQ(base, unset) << "nothing was fed";
  ASSERT_TRUE(engine->feed(kPrompt).ok());
  // Device memory is host memory here: find it by the trunk's output.
  auto *buffer = const_cast<std::byte *>(
      reinterpret_cast<const std::byte *>(engine->hidden().data) -
      engine->memory().io.at("trunk").outputs[0]);
  for (int round = 0; round < 2; ++round) {
    for (size_t i = 0; i < plan.states.size(); ++i) {
      auto values = engine->state(plan.states[i].name);
      ASSERT_TRUE(values.ok());
      EXPECT_FALSE(values->empty());
      EXPECT_EQ(std::ranges::count(*values, 0.0f), int64_t(values->size()))
          << plan.states[i].name;
      std::byte *at = buffer + engine->memory().states[i];
      std::fill(at, at + plan.states[i].byteSize(300), std::byte(0x11));
      EXPECT_NE((*engine->state(plan.states[i].name))[0], 0.0f);
    }
    ASSERT_TRUE(engine->reset().ok());
    EXPECT_EQ(engine->position(), 0);
    EXPECT_EQ(engine->hidden().rows, 0);
    EXPECT_FALSE(engine->sample().ok());
  }
  EXPECT_TRUE(engine->state("unknown")->empty());
}

TEST_F(CudaEngineTest, WhatTheSamplerRefusesIsAnError) {
  auto engine = create();
  ASSERT_TRUE(engine->feed(kPrompt).ok());
  ASSERT_TRUE(engine->step(1).ok());
  EXPECT_FALSE(engine->setSampling({.temperature = -1}, 0).ok());
  sampleStatus = LATHE_SAMPLE_NAN;
  const int32_t next = choiceAfter(10);
  Status status = engine->step(next).status();
  EXPECT_TRUE(cuda::contains(status, "not a number")) << status;
  sampleStatus = LATHE_SAMPLE_INFINITE;
  EXPECT_TRUE(cuda::contains(engine->step(next).status(), "infinite"));
  sampleStatus = LATHE_SAMPLE_NOTHING;
  EXPECT_TRUE(cuda::contains(engine->sample().status(), "finite"));
  // The failed steps moved on, and left no token that could be taken for ours.
  sampleStatus = LATHE_SAMPLE_CHOSEN;
  tokens.clear();
  EXPECT_EQ(*engine->step(next), choiceAfter(13));
  EXPECT_EQ(tokens, (std::vector<SeenToken>{{next, 13}}));
}

TEST_F(CudaEngineTest, RefusesWhatDoesNotFitTheSequence) {
  auto engine = create();
  EXPECT_EQ(exitCode(engine->step(-1).status()), 2);
  EXPECT_EQ(exitCode(engine->step(int32_t(kTestVocab)).status()), 2);
  EXPECT_EQ(exitCode(engine->feed(promptOf(301))), 2);
  ASSERT_TRUE(engine->feed(promptOf(300)).ok());
  Status full = engine->step(1).status();
  EXPECT_EQ(exitCode(full), 2);
  EXPECT_TRUE(cuda::contains(full, "--ctx")) << full;
}

TEST_F(CudaEngineTest, NotEnoughMemoryIsSaidBeforeAnythingIsAllocated) {
  config->totalBytes = 50 << 20;
  Status status = tryCreate().status();
  EXPECT_EQ(exitCode(status), 4);
  EXPECT_TRUE(cuda::contains(status, "kv cache")) << status;
  EXPECT_TRUE(cuda::contains(status, "total")) << status;
  EXPECT_EQ(state->allocations, 0);
  EXPECT_EQ(state->modules + state->streams + state->buffers, 0);
}

TEST_F(CudaEngineTest, ThePlanIsWhatTheDriverGives) {
  auto engine = create();
  EXPECT_EQ(engine->driverBytes(), engine->memory().total);
  EXPECT_EQ(state->buffers, 1) << "one allocation";
}

TEST_F(CudaEngineTest, AMissingImageOrEntryIsNamed) {
  plan.kernels[1].name = "other";
  EXPECT_TRUE(cuda::contains(tryCreate().status(), "other"));
  plan = cudaTestPlan();
  plan.kernels[1].stages[1].entry = "layer_2";
  EXPECT_TRUE(cuda::contains(tryCreate().status(), "layer_2"));
  config->major = 8;
  EXPECT_FALSE(tryCreate().ok()) << "an image for another GPU";
  EXPECT_EQ(state->allocations, 0);
}

TEST_F(CudaEngineTest, AnyFailureToAllocateIsAStatus) {
  const int needed = [&] {
    auto engine = create();
    return engine ? state->allocations : 0;
  }();
  ASSERT_GE(needed, 4);
  for (int failing = 1; failing <= needed; ++failing) {
    config->failAllocation = failing;
    EXPECT_EQ(exitCode(tryCreate().status()), 4) << failing;
    EXPECT_EQ(state->buffers + state->pinned + state->modules, 0) << failing;
  }
}

TEST_F(CudaEngineTest, AFailingDriverIsAStatus) {
  config->launchResult = cuda::abi::CUresult(719);
  EXPECT_FALSE(tryCreate().ok());
  EXPECT_EQ(state->buffers + state->pinned + state->modules + state->graphs, 0);
  config->launchResult = cuda::abi::Success;
  config->waitResult = cuda::abi::CUresult(719);
  EXPECT_FALSE(tryCreate().ok());
  EXPECT_EQ(state->buffers + state->pinned + state->modules + state->graphs, 0);
  config->waitResult = cuda::abi::Success;

  auto engine = create();
  ASSERT_TRUE(engine->feed(kPrompt).ok());
  config->launchResult = cuda::abi::CUresult(719);
  EXPECT_FALSE(engine->step(1).ok());
  EXPECT_FALSE(engine->feed(kPrompt).ok());
  EXPECT_FALSE(engine->feed({{1, 2, 3, 4}}).ok());
  EXPECT_FALSE(engine->sample().ok());
  EXPECT_EQ(engine->position(), 10) << "nothing was fed";
  config->launchResult = cuda::abi::Success;
  config->waitResult = cuda::abi::CUresult(719);
  EXPECT_FALSE(engine->step(1).ok());
  EXPECT_FALSE(engine->lastLogits().ok());
  EXPECT_FALSE(engine->state("kv").ok());
  // CudaTest checks that nothing is left once the engine is gone.
}

TEST_F(CudaEngineTest, WithoutDecodeEntriesItStillSteps) {
  std::erase_if(plan.entries,
                [](const PlannedEntry &entry) { return !entry.prefill; });
  auto engine = create();
  ASSERT_TRUE(engine->feed(kPrompt).ok());
  auto token = engine->step(4);
  ASSERT_TRUE(token.ok()) << token.status();
  EXPECT_EQ(*token, choiceAfter(10));
  EXPECT_EQ(tokens.back(), (SeenToken{4, 10}));
}

} // namespace
} // namespace lathe
