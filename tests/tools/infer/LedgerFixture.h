//===- LedgerFixture.h - a small ledger -------------------------*- C++ -*-===//

#ifndef LATHE_TESTS_TOOLS_INFER_LEDGERFIXTURE_H
#define LATHE_TESTS_TOOLS_INFER_LEDGERFIXTURE_H

#include "tools/infer/Ledger.h"

namespace lathe::cli {

/// Bytes per second that make a megabyte a microsecond.
inline constexpr double kTestBandwidth = 1e12;

/// Of 10 MB, so 10 us of bytes.
inline LedgerStage testStage(double inStep) {
  LedgerStage stage;
  stage.section = "trunk";
  stage.kernel = "linear_0";
  stage.what = "gate_proj, up_proj";
  stage.calls = stage.launches = 1;
  stage.registers = 96;
  stage.bytes = 10e6;
  stage.times.inStep = stage.times.alone = inStep;
  stage.times.empty = 1e-6;
  return stage;
}

/// Two layers of a stage that waits for activations, then a head at the limit.
inline Ledger testLedger() {
  Ledger ledger;
  ledger.model = "family";
  ledger.device = "Test GPU";
  ledger.tokens = 4;
  ledger.depth = 1000;
  ledger.bandwidth = kTestBandwidth;
  LedgerStage layer = testStage(16e-6), head = testStage(10.5e-6);
  layer.calls = layer.launches = 2;
  layer.times.onSms = {{100, 16e-6}, {50, 23e-6}, {25, 41e-6}};
  head.section = "head";
  head.kernel = "linear_1";
  head.what = "lm_head";
  ledger.stages = {layer, head};
  ledger.order = {0, 0, 1};
  ledger.measured = 42.4e-6;
  return ledger;
}

} // namespace lathe::cli

#endif // LATHE_TESTS_TOOLS_INFER_LEDGERFIXTURE_H
