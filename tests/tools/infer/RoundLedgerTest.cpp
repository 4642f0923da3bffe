//===- RoundLedgerTest.cpp - the table of a round -------------------------===//

#include "tools/infer/RoundLedger.h"

#include "gtest/gtest.h"

namespace lathe::cli {
namespace {

using Part = CudaEngine::RoundPart;

RoundLedger ledger() {
  return {3,
          1000,
          4e12,
          {{Part::Drafts, "linear_1", "fc", 3, 3, 60e6, 30e-6},
           {Part::Drafts, "choice", "", 3, 9, 0, 15e-6},
           {Part::Verify, "linear_2", "o_proj", 64, 64, 8e9, 4e-3},
           {Part::Accept, "accept", "", 1, 1, 0, 5e-6}}};
}

TEST(RoundLedger, ARowHasTheTimeOfOneCallAndOfAll) {
  EXPECT_NE(tableOf(ledger()).find(
                "| linear_1 | fc | 3 | 3 | 10.00 | 0.030 | 60.0 | 50.0 |"),
            std::string::npos);
}

TEST(RoundLedger, ASumStandsBehindEachPartAndBehindAll) {
  const std::string table = tableOf(ledger());
  const size_t drafts = table.find("| **drafts** |  |  | 12 |  | 0.045 |"),
               verify = table.find("| **verify** |  |  | 64 |  | 4.000 |"),
               accept = table.find("| **accept** |  |  | 1 |  | 0.005 |"),
               all = table.find("| **round** |  |  | 77 |  | 4.050 |");
  EXPECT_LT(drafts, table.find("linear_2"));
  EXPECT_LT(drafts, verify);
  EXPECT_LT(verify, accept);
  EXPECT_LT(accept, all);
  EXPECT_NE(all, std::string::npos);
}

TEST(RoundLedger, WhatReadsNothingHasNoShareOfTheBandwidth) {
  EXPECT_NE(tableOf(ledger()).find("| accept |  | 1 | 1 | 5.00 | 0.005 | 0.0 "
                                   "|  |"),
            std::string::npos);
}

} // namespace
} // namespace lathe::cli
