#include "runtime/artifact/PlanJson.h"

#include "TestPlan.h"

#include <gtest/gtest.h>

#include <functional>

namespace lathe {

// Structured bindings: a new field of the plan does not compile until it is
// compared, and so stored.
static bool operator==(const PlannedStage &x, const PlannedStage &y) {
  const auto &[a, b, c, d, e, f, g, h, i] = x;
  const auto &[j, k, l, m, n, o, p, q, r] = y;
  return std::tie(a, b, c, d, e, f, g, h, i) ==
         std::tie(j, k, l, m, n, o, p, q, r);
}
static bool operator==(const PlannedKernel &x, const PlannedKernel &y) {
  const auto &[a, b, c, d, e] = x;
  const auto &[f, g, h, i, j] = y;
  return std::tie(a, b, c, d, e) == std::tie(f, g, h, i, j);
}
static bool operator==(const PlannedWeight &x, const PlannedWeight &y) {
  const auto &[a, b, c, d] = x;
  const auto &[e, f, g, h] = y;
  return std::tie(a, b, c, d) == std::tie(e, f, g, h);
}
static bool operator==(const PlannedState &x, const PlannedState &y) {
  const auto &[a, b, c, d, e] = x;
  const auto &[f, g, h, i, j] = y;
  return std::tie(a, b, c, d, e) == std::tie(f, g, h, i, j);
}
static bool operator==(const PlannedOperand &x, const PlannedOperand &y) {
  const auto &[a, b] = x;
  const auto &[c, d] = y;
  return std::tie(a, b) == std::tie(c, d);
}
static bool operator==(const PlannedLaunch &x, const PlannedLaunch &y) {
  const auto &[a, b] = x;
  const auto &[c, d] = y;
  return std::tie(a, b) == std::tie(c, d);
}
static bool operator==(const PlannedIo &x, const PlannedIo &y) {
  const auto &[a] = x;
  const auto &[b] = y;
  return a == b;
}
static bool operator==(const PlannedEntry &x, const PlannedEntry &y) {
  const auto &[a, b, c, d, e, f, g] = x;
  const auto &[h, i, j, k, l, m, n] = y;
  return std::tie(a, b, c, d, e, f, g) == std::tie(h, i, j, k, l, m, n);
}
static bool operator==(const PlannedStep &x, const PlannedStep &y) {
  const auto &[a, b, c] = x;
  const auto &[d, e, f] = y;
  return std::tie(a, b, c) == std::tie(d, e, f);
}
static bool operator==(const PlannedProfile &x, const PlannedProfile &y) {
  const auto &[a, b] = x;
  const auto &[c, d] = y;
  return std::tie(a, b) == std::tie(c, d);
}
static bool operator==(const Plan &x, const Plan &y) {
  const auto &[a, b, c, d, e, f, g] = x;
  const auto &[h, i, j, k, l, m, n] = y;
  return std::tie(a, b, c, d, e, f, g) == std::tie(h, i, j, k, l, m, n);
}

namespace {

/// Passes when the text is a modelError whose message contains `part`.
testing::AssertionResult refused(std::string_view text, std::string_view part) {
  StatusOr<Plan> plan = planFromJson(text, "plan.json");
  if (exitCode(plan.status()) == 3 &&
      messageOf(plan.status()).find(part) != std::string::npos)
    return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << "expected a modelError with \"" << part << "\", got "
         << (plan.ok() ? "OK" : messageOf(plan.status()));
}

std::string replaced(std::string text, std::string_view from,
                     std::string_view to) {
  size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(PlanJson, RoundTrip) {
  Plan plan = testPlan("sm_120f");
  auto read = planFromJson(planToJson(plan), "plan.json");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(*read == plan);
}

TEST(PlanJson, RoundTripOfAnEmptyPlan) {
  auto read = planFromJson(planToJson(Plan{}), "plan.json");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(*read == Plan{});
}

TEST(PlanJson, ALaunchIsALine) {
  Plan plan = testPlan("sm_90");
  plan.entries[0].launches.resize(50, plan.entries[0].launches[1]);
  std::string text = planToJson(plan);
  EXPECT_NE(text.find("\n    [1,\"arena\",0,\"state\",2,\"output\",0],\n"),
            std::string::npos)
      << text;
}

TEST(PlanJson, RefusesEveryTruncation) {
  std::string text = planToJson(testPlan("sm_90"));
  for (size_t size = 0; size + 2 < text.size(); size += 7)
    EXPECT_TRUE(refused(text.substr(0, size), "plan.json: not valid JSON"));
}

TEST(PlanJson, RefusesOtherFields) {
  std::string text = planToJson(testPlan("sm_90"));
  EXPECT_TRUE(refused(replaced(text, "\"ring\"", "\"rings\""),
                      "plan.json: states[0].ring: required, but missing"));
  EXPECT_TRUE(refused(replaced(text, "\"ring\"", "\"more\": 1, \"ring\""),
                      "plan.json: states[0].more: unknown"));
  EXPECT_TRUE(refused(replaced(text, "\"ring\"", "\"name\": \"\", \"ring\""),
                      "plan.json: the key \"name\" appears twice"));
}

TEST(PlanJson, RefusesOtherTypes) {
  std::string text = planToJson(testPlan("sm_90"));
  EXPECT_TRUE(refused("[]", "plan.json: expected an object, found an array"));
  EXPECT_TRUE(refused(replaced(text, "\"kv\"", "\"kvs\""),
                      "states[0].kind: expected one of kv, conv, recurrent, "
                      "found \"kvs\""));
  EXPECT_TRUE(refused(replaced(text, "\"threads\":256", "\"threads\":2.5"),
                      "kernels[0].stages[0].threads: expected an integer"));
  EXPECT_TRUE(refused(
      replaced(text, "\"threads\":256", "\"threads\":99999999999999999999"),
      "kernels[0].stages[0].threads: expected an integer"));
  EXPECT_TRUE(refused(replaced(text, "\"prefill\": false", "\"prefill\": 0"),
                      "entries[0].prefill: expected true or false, found 0"));
  EXPECT_TRUE(refused(replaced(text, "[1,\"arena\",0", "[1,\"arena\""),
                      "entries[0].launches[1]: expected [kernel, space"));
  EXPECT_TRUE(refused(replaced(text, "[1,\"arena\",0", "[1,\"area\",0"),
                      "entries[0].launches[1]: expected arena, weight"));
  EXPECT_TRUE(refused(replaced(text, "[1,\"arena\",0", "[1,\"arena\",-1"),
                      "entries[0].launches[1]: expected an integer from 0"));
}

struct Damage {
  const char *field;
  std::function<void(Plan &)> apply;
};

TEST(PlanCheck, RefusesWhatPointsNowhere) {
  using Space = PlannedOperand::Space;
  auto operand = [](Plan &plan) -> PlannedOperand & {
    return plan.entries[0].launches[0].operands[0];
  };
  const Damage all[] = {
      {"entries[0].launches[2]",
       [](Plan &p) { p.entries[0].launches[2].kernel = 2; }},
      {"entries[0].launches[2]",
       [](Plan &p) { p.entries[0].launches[2].kernel = -1; }},
      {"entries[0].launches[0].operands[0]",
       [&](Plan &p) { operand(p) = {Space::Arena, 65536}; }},
      {"entries[0].launches[0].operands[0]",
       [&](Plan &p) { operand(p) = {Space::Arena, -1}; }},
      {"entries[0].launches[0].operands[0]",
       [&](Plan &p) { operand(p) = {Space::Weight, 7}; }},
      {"entries[0].launches[0].operands[0]",
       [&](Plan &p) { operand(p) = {Space::State, 3}; }},
      {"entries[0].launches[0].operands[0]",
       [&](Plan &p) { operand(p) = {Space::Input, 1}; }},
      {"entries[0].launches[0].operands[0]",
       [&](Plan &p) { operand(p) = {Space::Output, 1}; }},
      {"steps[0].tokens", [](Plan &p) { p.steps[0].tokens = 65; }},
      {"steps[0].kernel", [](Plan &p) { p.steps[0].kernel = 2; }},
      {"steps[0].kernel", [](Plan &p) { p.steps[0].kernel = -1; }},
      {"steps[0].kernel", [](Plan &p) { p.steps[0].kernel = 0; }},
      {"steps[0].covers[1]", [](Plan &p) { p.steps[0].covers[1] = 2; }},
      {"steps[0].covers[1]", [](Plan &p) { p.steps[0].covers[1] = 0; }},
  };
  for (const Damage &damage : all) {
    Plan plan = testPlan("sm_90");
    damage.apply(plan);
    Status status = checkPlan(plan);
    EXPECT_EQ(exitCode(status), 3);
    EXPECT_TRUE(messageOf(status).starts_with(damage.field)) << status;
  }
}

TEST(PlanCheck, RefusesSizesThatMakeNoSense) {
  const Damage all[] = {
      {"target", [](Plan &p) { p.target = "../sm_90"; }},
      {"kernels[0].name", [](Plan &p) { p.kernels[0].name = "a/b"; }},
      {"kernels[0].name", [](Plan &p) { p.kernels[0].name = ""; }},
      {"kernels[1].name", [](Plan &p) { p.kernels[1].name = "norm_linear"; }},
      {"kernels[0].shared_bytes",
       [](Plan &p) { p.kernels[0].sharedBytes = -1; }},
      {"kernels[0].bytes_per_position",
       [](Plan &p) { p.kernels[0].bytesPerPosition = -1; }},
      {"kernels[1].stages", [](Plan &p) { p.kernels[1].stages.clear(); }},
      {"kernels[0].stages", [](Plan &p) { p.target = "cpu"; }},
      {"kernels[0].stages[1].threads",
       [](Plan &p) { p.kernels[0].stages[1].threads = 2048; }},
      {"kernels[0].stages[1].blocks",
       [](Plan &p) { p.kernels[0].stages[1].blocks = 0; }},
      {"kernels[0].stages[0].grain",
       [](Plan &p) { p.kernels[0].stages[0].grain = 5; }},
      {"kernels[0].stages[0].grain",
       [](Plan &p) { p.kernels[0].stages[0].grain = -1; }},
      {"profile.arch", [](Plan &p) { p.profile.arch = "sm_12"; }},
      {"profile.sms", [](Plan &p) { p.profile.sms = 0; }},
      {"weights[0].rows",
       [](Plan &p) { p.weights[0].desc.rows = int64_t(1) << 60; }},
      {"weights[1].group", [](Plan &p) { p.weights[1].desc.group = 0; }},
      {"weights[2].group", [](Plan &p) { p.weights[2].desc.group = 32; }},
      {"weights[2].asymmetric",
       [](Plan &p) { p.weights[2].desc.asymmetric = true; }},
      {"weights[5].shape", [](Plan &p) { p.weights[5].shape.clear(); }},
      {"weights[6].shape", [](Plan &p) { p.weights[6].shape = {4}; }},
      {"states[0].dims", [](Plan &p) { p.states[0].dims = {4}; }},
      {"states[0].dims", [](Plan &p) { p.states[0].dims = {4, 0}; }},
      {"states[0].element_bytes",
       [](Plan &p) { p.states[0].elementBytes = 3; }},
      {"states[1].ring", [](Plan &p) { p.states[1].ring = 2; }},
      {"states[0].ring", [](Plan &p) { p.states[0].ring = 16; }},
      {"states[2].ring", [](Plan &p) { p.states[2].ring = -1; }},
      {"entries[0].tokens", [](Plan &p) { p.entries[0].tokens = 0; }},
      {"entries[0].arena_bytes", [](Plan &p) { p.entries[0].arenaBytes = -1; }},
      {"entries[1].outputs[1]",
       [](Plan &p) { p.entries[1].outputs[1].width = -1; }},
  };
  for (const Damage &damage : all) {
    Plan plan = testPlan("sm_90");
    damage.apply(plan);
    Status status = checkPlan(plan);
    EXPECT_EQ(exitCode(status), 3);
    EXPECT_TRUE(messageOf(status).starts_with(damage.field)) << status;
  }
}

} // namespace
} // namespace lathe
