#include "compiler/nvrtc/PtxasLog.h"

#include "gtest/gtest.h"

namespace lathe {
namespace {

// As NVRTC 13.0 prints it.
constexpr std::string_view kLog = R"(mix.cu(3): warning #177-D: unused

ptxas info    : Overriding maximum register limit 256 for 'mix' with  24 of maxrregcount option
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'plain' for 'sm_90'
ptxas info    : Function properties for plain
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
ptxas info    : Compile time = 2.700 ms
ptxas info    : Function properties for _Z6helperf
ptxas         .     16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Compiling entry function 'mix' for 'sm_90'
ptxas info    : Function properties for mix
ptxas         .     200 bytes stack frame, 200 bytes spill stores, 196 bytes spill loads
ptxas info    : Used 24 registers, used 1 barriers, 208 bytes cumulative stack size, 4096 bytes smem
ptxas info    : Compile time = 13.977 ms
ptxas warning : Something else
)";

TEST(PtxasLogTest, ReadsEveryEntry) {
  std::vector<EntryResources> entries = parsePtxasLog(kLog);
  ASSERT_EQ(entries.size(), 2u);
  EntryResources plain{.name = "plain",
                       .registers = 8,
                       .spillBytes = 12,
                       .stackBytes = 16,
                       .staticShared = 0};
  EntryResources mix{.name = "mix",
                     .registers = 24,
                     .spillBytes = 396,
                     .stackBytes = 208,
                     .staticShared = 4096};
  EXPECT_EQ(entries[0], plain) << "a callee counts for its entry";
  EXPECT_EQ(entries[1], mix);
}

TEST(PtxasLogTest, KeepsMessagesOnly) {
  EXPECT_EQ(ptxasMessages(kLog), "mix.cu(3): warning #177-D: unused\n\n"
                                 "ptxas warning : Something else");
  EXPECT_EQ(ptxasMessages("ptxas info    : 0 bytes gmem\n"), "");
}

TEST(PtxasLogTest, KeepsLossesOfPerformance) {
  constexpr std::string_view loss =
      "ptxas info    : (C7512) Potential Performance Loss: wgmma.mma_async "
      "instructions are serialized due to ... in the function 'f'";
  EXPECT_EQ(ptxasMessages(loss), loss);
}

TEST(PtxasLogTest, SurvivesOtherText) {
  EXPECT_TRUE(parsePtxasLog("").empty());
  EXPECT_TRUE(parsePtxasLog("Used 8 registers\nno newline").empty());
  EXPECT_TRUE(parsePtxasLog("Compiling entry function 'cut").empty());
  EXPECT_EQ(parsePtxasLog("Compiling entry function 'f' for\nUsed many "
                          "registers")[0]
                .registers,
            0);
}

} // namespace
} // namespace lathe
