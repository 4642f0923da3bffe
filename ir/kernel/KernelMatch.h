//===- KernelMatch.h - what a fused kernel consists of ----------*- C++ -*-===//
//
// The back ends and the passes that choose schedules read a kernel.func through
// these: they name the parts of its body, and report as errors on the operation
// what no device library can do.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_IR_KERNEL_KERNELMATCH_H
#define LATHE_IR_KERNEL_KERNELMATCH_H

#include "ir/graph/Graph.h"
#include "ir/kernel/Kernel.h"

#include <utility>
#include <vector>

namespace lathe {

/// Linears whose tiles are computed together, and what is stored from them.
struct LinearSegment {
  llvm::SmallVector<graph::LinearOp> linears; ///< one, or two of one type
  /// Result number and value.
  llvm::SmallVector<std::pair<unsigned, mlir::Value>> outputs;
};

/// One segment per set of linears that some result combines, in body order.
mlir::FailureOr<llvm::SmallVector<LinearSegment>>
matchLinear(kernel::FuncOp func);

/// The values side by side that the linears read.
llvm::SmallVector<mlir::Value> inputParts(graph::LinearOp linear);

/// The norm whose scale can multiply the linear's input last, since the input
/// is a product of the norm and of values that do not read it; null if there is
/// none.
graph::RmsNormOp scalingNorm(graph::LinearOp linear);

/// A delta kernel: short_conv, l2_norm of q and k, gates and the rule.
struct DeltaMatch {
  graph::DeltaRuleOp rule;
  graph::DeltaGatesOp gates;
  graph::ShortConvOp conv;
  graph::L2NormOp q, k;

  /// qkv, a, b, taps, a_log, dt_bias, conv state and state: the order of the
  /// device functions.
  std::vector<mlir::Value> operands();
};
mlir::FailureOr<DeltaMatch> matchDelta(kernel::FuncOp func);

/// q or k of an attention kernel: rope(rms_norm(slice(argument))).
struct PlacedHeads {
  graph::RopeOp rope;
  graph::RmsNormOp norm;
  mlir::Value source;     ///< the kernel argument
  int64_t headStride = 0; ///< columns between heads in `source`
};
struct AttentionMatch {
  graph::AttentionOp op;
  PlacedHeads q, k;
  int64_t heads = 0;
};
mlir::FailureOr<AttentionMatch> matchAttention(kernel::FuncOp func);

/// The number of the kernel's result that returns `value`.
unsigned resultOf(kernel::FuncOp func, mlir::Value value);

/// The inverse frequencies of rotary pairs, theta^(-2i/d).
std::vector<double> inverseFrequencies(graph::RopeOp rope);

} // namespace lathe

#endif // LATHE_IR_KERNEL_KERNELMATCH_H
