//===- CudaTestPlan.h - a small plan for a GPU ------------------*- C++ -*-===//
//
// A model of one embedding, one layer of two stages and one head, whose kernels
// do nothing; and images for the fake driver that have their entries.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_TESTS_RUNTIME_ENGINE_CUDATESTPLAN_H
#define LATHE_TESTS_RUNTIME_ENGINE_CUDATESTPLAN_H

#include "runtime/artifact/Plan.h"

namespace lathe {

inline constexpr int64_t kTestHidden = 24, kTestVocab = 50;
inline constexpr int64_t kTestPrefill = 32;
/// Launches of a decode step: embedding, two stages, head.
inline constexpr int kTestTrunkLaunches = 3, kTestHeadLaunches = 1;

inline std::vector<PlannedWeight> cudaTestWeights() {
  return {
      {"embed",
       Layout::Rows,
       {WeightFormat::BF16, kTestVocab, kTestHidden, 0, false},
       {}},
      {"norm", Layout::Vector, {}, {kTestHidden}},
      {"conv", Layout::Transposed, {}, {6, 4}},
      {"q", Layout::Tiles, {WeightFormat::BF16, 40, kTestHidden, 0, false}, {}},
      {"k", Layout::Tiles, {WeightFormat::Int4, 48, 256, 32, true}, {}},
      {"gate", Layout::Tiles, {WeightFormat::NvFp4, 20, 64, 16, false}, {}},
      {"bias", Layout::Vector, {}, {7}},
      {"head",
       Layout::Tiles,
       {WeightFormat::F32, kTestVocab, kTestHidden, 0, false},
       {}}};
}

/// A trunk of `kernel` between the embedding and the output.
inline PlannedEntry cudaTestTrunk(int64_t tokens, bool prefill, int kernel) {
  using Space = PlannedOperand::Space;
  return {"trunk",
          tokens,
          prefill,
          tokens * 1000,
          {{0}},
          {{kTestHidden}},
          {{0, {{Space::Input, 0}, {Space::Weight, 0}, {Space::Arena, 0}}},
           {kernel,
            {{Space::Arena, 256},
             {Space::Weight, 3},
             {Space::State, 0},
             {Space::State, 2},
             {Space::Output, 0}}}}};
}

inline Plan cudaTestPlan() {
  using Space = PlannedOperand::Space;
  Plan plan;
  plan.target = "sm_90";
  plan.kernels = {
      {"embed", 0, 0, 0, {{"embed", 128, 1, 1, 0}}},
      {"layer", 5000, 48, 0, {{"layer_0", 256, 7, 0, 4096}, {"layer_1", 64}}},
      {"prefill", 9000, 0, 0, {{"prefill", 512, 3, 16, 1024}}},
      {"logits", 0, 0, 0, {{"logits", 256, 132, 0, 0}}}};
  plan.weights = cudaTestWeights();
  plan.states = {{"kv", StateKind::Kv, {2, 20}, 2, 0},
                 {"conv", StateKind::Conv, {3, 10}, 4, 16},
                 {"recurrent", StateKind::Recurrent, {2, 8, 5}, 4, 0},
                 {"kv32", StateKind::Kv, {1, 16}, 4, 0}};
  plan.entries = {
      cudaTestTrunk(1, false, 1),
      cudaTestTrunk(4, false, 1),
      cudaTestTrunk(kTestPrefill, true, 2),
      {"head",
       1,
       false,
       64,
       {{kTestHidden}},
       {{kTestVocab}},
       {{3, {{Space::Input, 0}, {Space::Weight, 7}, {Space::Output, 0}}}}},
      {"head",
       8,
       true,
       64,
       {{kTestHidden}},
       {{kTestVocab}},
       {{3, {{Space::Input, 0}, {Space::Weight, 7}, {Space::Output, 0}}}}}};
  return plan;
}

} // namespace lathe

#endif // LATHE_TESTS_RUNTIME_ENGINE_CUDATESTPLAN_H
