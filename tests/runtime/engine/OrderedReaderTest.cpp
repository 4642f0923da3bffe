#include "runtime/engine/OrderedReader.h"

#include "tests/runtime/engine/CudaTestPlan.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>

namespace lathe {
namespace {

using namespace std::chrono_literals;

/// `count` vectors "0", "1" and so on, of one float each.
Plan vectors(int count) {
  Plan plan;
  plan.target = "sm_90";
  for (int i = 0; i < count; ++i)
    plan.weights.push_back({std::to_string(i), Layout::Vector, {}, {1}});
  return plan;
}

/// Answers with the number in the name, the later the smaller it is, so that
/// threads finish out of order.
class NumberSource : public WeightSource {
public:
  explicit NumberSource(int failing = -1) : failing(failing) {}

  StatusOr<HostWeight> weight(const std::string &name,
                              const WeightDesc &) override {
    return internalError("no weight " + name);
  }
  StatusOr<std::vector<float>> tensor(const std::string &name,
                                      std::span<const int64_t>) override {
    ++begun;
    const int number = std::stoi(name);
    std::this_thread::sleep_for(number % 3 == 0 ? 2ms : 0ms);
    if (number == failing)
      return modelError("cannot read " + name);
    return std::vector<float>{float(number)};
  }

  std::atomic<int> begun{0};

private:
  const int failing;
};

TEST(OrderedReader, KeepsTheOrder) {
  const Plan plan = vectors(40);
  for (int threads : {1, 2, 5}) {
    NumberSource source;
    OrderedReader reader(plan, source, threads);
    for (int i = 0; i < 40; ++i) {
      auto parameter = reader.next();
      ASSERT_TRUE(parameter.ok()) << parameter.status();
      EXPECT_EQ(parameter->floats, std::vector<float>{float(i)});
    }
    EXPECT_EQ(source.begun, 40);
  }
}

TEST(OrderedReader, HoldsOnePerThreadAndOneMore) {
  const Plan plan = vectors(40);
  for (int threads : {1, 3}) {
    NumberSource source;
    OrderedReader reader(plan, source, threads);
    for (int i = 0; i < 10; ++i) {
      // Time to read more, if it did.
      std::this_thread::sleep_for(10ms);
      EXPECT_LE(source.begun, i + threads + 1);
      EXPECT_GT(source.begun, i);
      ASSERT_TRUE(reader.next().ok());
    }
  }
}

TEST(OrderedReader, ReportsAnErrorOfAnyThread) {
  const Plan plan = vectors(40);
  for (int threads : {1, 4})
    for (int failing : {0, 1, 13, 39}) {
      NumberSource source(failing);
      OrderedReader reader(plan, source, threads);
      Status status;
      int taken = 0;
      for (; taken < 40 && status.ok(); ++taken)
        status = reader.next().status();
      EXPECT_EQ(messageOf(status), "cannot read " + std::to_string(failing));
      EXPECT_EQ(exitCode(status), 3);
      EXPECT_LE(taken, failing + 1);
      EXPECT_FALSE(reader.next().ok()) << "and stays failed";
    }
}

TEST(OrderedReader, StopsEarly) {
  const Plan plan = vectors(1000);
  for (int consumed : {0, 1, 7}) {
    NumberSource source;
    {
      OrderedReader reader(plan, source, 3);
      for (int i = 0; i < consumed; ++i)
        ASSERT_TRUE(reader.next().ok());
    }
    EXPECT_LE(source.begun, consumed + 4);
  }
}

TEST(OrderedReader, APlanWithoutWeights) {
  const Plan plan;
  NumberSource source;
  OrderedReader reader(plan, source, 2);
  EXPECT_EQ(source.begun, 0);
}

/// Six rows of four, counting up.
class MatrixSource : public NumberSource {
public:
  StatusOr<HostWeight> weight(const std::string &,
                              const WeightDesc &expected) override {
    HostWeight weight;
    weight.desc = expected;
    return weight;
  }
  StatusOr<std::vector<float>> tensor(const std::string &,
                                      std::span<const int64_t> shape) override {
    std::vector<float> values(size_t(shape[0] * shape[1]));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = float(i);
    return values;
  }
};

TEST(ReadParameter, TransposesOnTheHost) {
  MatrixSource source;
  const PlannedWeight weight{"conv", Layout::Transposed, {}, {6, 4}};
  auto parameter = readParameter(weight, source);
  ASSERT_TRUE(parameter.ok());
  ASSERT_EQ(parameter->floats.size(), 24u);
  for (size_t r = 0; r < 6; ++r)
    for (size_t c = 0; c < 4; ++c)
      EXPECT_EQ(parameter->floats[c * 6 + r], float(4 * r + c));
}

TEST(ReadParameter, LeavesWeightsAsTheyAre) {
  MatrixSource source;
  for (const PlannedWeight &weight : cudaTestWeights())
    if (weight.layout == Layout::Tiles || weight.layout == Layout::Rows) {
      auto parameter = readParameter(weight, source);
      ASSERT_TRUE(parameter.ok());
      EXPECT_TRUE(parameter->floats.empty());
      EXPECT_EQ(parameter->weight.desc, weight.desc);
    }
}

} // namespace
} // namespace lathe
