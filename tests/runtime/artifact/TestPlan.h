//===- TestPlan.h - a plan with one of everything ---------------*- C++ -*-===//

#ifndef LATHE_TESTS_RUNTIME_ARTIFACT_TESTPLAN_H
#define LATHE_TESTS_RUNTIME_ARTIFACT_TESTPLAN_H

#include "runtime/artifact/Plan.h"

namespace lathe {

/// Every field differs from its default, every enumerator occurs.
inline Plan testPlan(const std::string &target) {
  using Space = PlannedOperand::Space;
  Plan plan;
  plan.target = target;
  plan.profile = {"sm_120", 36};
  plan.kernels = {
      {"norm_linear",
       4096,
       2,
       0,
       {{"norm_linear_0", 256, 36, 0, 101376, 4, 128, 8, 16},
        {"norm_linear_1", 128, 4, 8, 0, 1, 40, 0, 0}}},
      {"attention", 0, 0, 64, {{"attention", 512, 8, 1, 1024, 0, 255, 0, 0}}}};
  plan.weights = {
      {"embed_tokens",
       Layout::Rows,
       {WeightFormat::BF16, 1000, 64, 0, false},
       {}},
      {"layers.0.q",
       Layout::Tiles,
       {WeightFormat::Int4, 64, 128, 32, true},
       {}},
      {"layers.0.k",
       Layout::Tiles,
       {WeightFormat::NvFp4, 64, 32, 16, false},
       {}},
      {"layers.0.f", Layout::Tiles, {WeightFormat::F32, 16, 16, 0, false}, {}},
      {"layers.0.h", Layout::Tiles, {WeightFormat::F16, 16, 16, 0, false}, {}},
      {"norm.weight", Layout::Vector, {}, {64}},
      {"conv.weight", Layout::Transposed, {}, {64, 1, 4}}};
  plan.states = {{"layers.0.kv", StateKind::Kv, {4, 128}, 2, 0},
                 {"layers.1.conv", StateKind::Conv, {3, 256}, 4, 16},
                 {"layers.1.rec", StateKind::Recurrent, {8, 128, 64}, 4, 0}};
  plan.entries = {
      {"trunk",
       1,
       false,
       65536,
       {{0}},
       {{64}},
       {{0, {{Space::Input, 0}, {Space::Weight, 6}, {Space::Arena, 65535}}},
        {1, {{Space::Arena, 0}, {Space::State, 2}, {Space::Output, 0}}},
        {1, {}}}},
      {"head", 64, true, 0, {{64}}, {{1000}, {64}}, {}}};
  plan.steps = {{1, 1, {0, 1}}};
  return plan;
}

} // namespace lathe

#endif // LATHE_TESTS_RUNTIME_ARTIFACT_TESTPLAN_H
