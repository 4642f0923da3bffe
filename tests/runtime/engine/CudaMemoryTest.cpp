#include "runtime/engine/CudaMemory.h"

#include "runtime/base/CudaAbi.h"
#include "runtime/base/CudaSampling.h"
#include "runtime/memory/WeightStore.h"
#include "tests/runtime/engine/CudaTestPlan.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace lathe {
namespace {

struct Range {
  std::string what;
  int64_t at, bytes;
};

/// Everything that the engine puts into the buffer, with the bytes it uses.
std::vector<Range> rangesOf(const Plan &plan, const CudaMemory &memory,
                            int64_t context) {
  std::vector<Range> ranges;
  for (size_t i = 0; i < plan.weights.size(); ++i)
    ranges.push_back({plan.weights[i].name, memory.weights[i],
                      residentBytes(plan.weights[i], plan.target)});
  for (size_t i = 0; i < plan.states.size(); ++i)
    ranges.push_back({plan.states[i].name, memory.states[i],
                      plan.states[i].byteSize(context)});
  int64_t scratch = sampleScratch(int(kTestVocab), 1);
  for (const PlannedKernel &kernel : plan.kernels)
    scratch = std::max(scratch,
                       kernel.sharedBytes + kernel.bytesPerPosition * context);
  ranges.push_back({"trunk in", memory.io.at("trunk").inputs.at(0),
                    ioBytes({0}, kTestPrefill)});
  ranges.push_back({"trunk out", memory.io.at("trunk").outputs.at(0),
                    ioBytes({kTestHidden}, kTestPrefill)});
  ranges.push_back({"head in", memory.io.at("head").inputs.at(0),
                    ioBytes({kTestHidden}, 8)});
  ranges.push_back({"head out", memory.io.at("head").outputs.at(0),
                    ioBytes({kTestVocab}, 8)});
  ranges.push_back({"arena", memory.arena, arenaBytes(plan)});
  ranges.push_back({"scratch", memory.scratch, scratch});
  ranges.push_back({"counters", memory.counters, LATHE_COUNTERS * 4});
  ranges.push_back({"steps", memory.steps, 256 * int64_t(plan.entries.size())});
  ranges.push_back({"sampling", memory.sampling, kSamplingBytes});
  ranges.push_back({"upload", memory.upload, 2 * kUploadBytes});
  return ranges;
}

TEST(CudaMemory, RangesAreAlignedAndApart) {
  const Plan plan = cudaTestPlan();
  for (int64_t context : {1, 37, 4096}) {
    const CudaMemory memory = layOutCuda(plan, context);
    std::vector<Range> ranges = rangesOf(plan, memory, context);
    std::ranges::sort(ranges, {}, &Range::at);
    int64_t end = 0;
    for (const Range &range : ranges) {
      EXPECT_EQ(range.at % 256, 0) << range.what;
      EXPECT_GE(range.at, end) << range.what << " overlaps";
      EXPECT_LT(range.at - end, 256) << "unused memory before " << range.what;
      end = range.at + range.bytes;
    }
    EXPECT_LE(end, memory.total);
    EXPECT_LT(memory.total - end, 256);
  }
}

TEST(CudaMemory, StatesStandBehindTheWeights) {
  // reset() zeroes one range.
  const Plan plan = cudaTestPlan();
  const CudaMemory memory = layOutCuda(plan, 100);
  for (size_t i = 0; i < plan.states.size(); ++i) {
    EXPECT_GE(memory.states[i], memory.weightBytes);
    EXPECT_LE(memory.states[i] + plan.states[i].byteSize(100),
              memory.weightBytes + memory.stateBytes);
  }
}

TEST(CudaMemory, RowsAddUp) {
  const CudaMemory memory = layOutCuda(cudaTestPlan(), 1000);
  int64_t sum = 0;
  std::vector<std::string> names;
  for (const MemoryRow &row : memory.table.rows) {
    sum += row.bytes;
    EXPECT_EQ(std::ranges::count(names, row.what), 0) << row.what;
    names.push_back(row.what);
  }
  EXPECT_EQ(sum, memory.total);
  EXPECT_EQ(memory.table.total, memory.total);
  EXPECT_EQ(memory.table.context, 1000);
  EXPECT_EQ(planMemory(cudaTestPlan(), 1000, 3).total, memory.total);
}

TEST(CudaMemory, OnlyCachesAndScratchGrowWithTheContext) {
  const Plan plan = cudaTestPlan();
  // Multiples of 256 positions, so that rounding adds nothing; enough of them
  // that the kernel with bytes per position decides the scratch.
  const CudaMemory small = layOutCuda(plan, 4096),
                   large = layOutCuda(plan, 8192);
  EXPECT_EQ(small.table.kvBytesPerToken, 2 * (2 * 20 * 2 + 16 * 4));
  EXPECT_EQ(large.total - small.total,
            4096 * (small.table.kvBytesPerToken + 48));
  EXPECT_EQ(small.weightBytes, large.weightBytes);
}

TEST(CudaMemory, ScratchIsEnoughForTheSampler) {
  Plan plan = cudaTestPlan();
  for (PlannedKernel &kernel : plan.kernels)
    kernel.sharedBytes = kernel.bytesPerPosition = 0;
  const CudaMemory memory = layOutCuda(plan, 16);
  EXPECT_GE(memory.counters - memory.scratch,
            sampleScratch(int(kTestVocab), 1));
}

TEST(CudaMemory, TheContextThatWouldFitFits) {
  const Plan plan = cudaTestPlan();
  const MemoryPlan wanted = layOutCuda(plan, 100000).table;
  const int64_t available = wanted.total - 3000000;
  const std::string message = messageOf(checkFits(wanted, available));
  const std::string marker = "a context of ";
  const size_t at = message.find(marker);
  ASSERT_NE(at, std::string::npos) << message;
  const int64_t context = std::stoll(message.substr(at + marker.size()));
  EXPECT_GT(context, 0);
  EXPECT_TRUE(checkFits(layOutCuda(plan, context).table, available).ok());
}

TEST(CudaMemory, APlanWithoutStatesOrHead) {
  Plan plan;
  plan.target = "sm_90";
  const CudaMemory memory = layOutCuda(plan, 10);
  EXPECT_EQ(memory.stateBytes, 0);
  EXPECT_EQ(memory.table.kvBytesPerToken, 0);
  EXPECT_EQ(memory.table.total, memory.total);
}

} // namespace
} // namespace lathe
