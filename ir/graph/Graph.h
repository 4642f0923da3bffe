//===- Graph.h - the graph dialect: a model in value form -------*- C++ -*-===//
//
// The IR that users read and write: see ir/SPEC.md for the meaning of every
// operation. A module holds one func.func per entry point, for example
//
//   func.func @trunk(%tokens: tensor<?xi32>, %position: index, states...)
//       -> (tensor<?xHxf32>, states...)
//
// State arguments (kv, conv, recurrent) come after the inputs and are returned
// updated, in the same order, after the outputs. An argument attribute
// `lathe.name` names each state.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_IR_GRAPH_GRAPH_H
#define LATHE_IR_GRAPH_GRAPH_H

#include "runtime/base/Weight.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace lathe::graph {

/// tensor<?xWxf32>: one row per token.
bool isActivation(mlir::Type type);
/// tensor<?xi32>.
bool isTokens(mlir::Type type);
/// A static f32 tensor of the given rank.
bool isStaticF32(mlir::Type type, int64_t rank);
/// A kv, conv or recurrent state.
bool isState(mlir::Type type);
/// Columns of an activation.
inline int64_t widthOf(mlir::Type type) {
  return mlir::cast<mlir::RankedTensorType>(type).getDimSize(1);
}
inline int64_t widthOf(mlir::Value value) { return widthOf(value.getType()); }
/// tensor<?x`width`xf32>.
mlir::RankedTensorType activationType(mlir::MLIRContext *context,
                                      int64_t width);

} // namespace lathe::graph

#include "ir/graph/GraphDialect.h.inc"

#define GET_TYPEDEF_CLASSES
#include "ir/graph/GraphTypes.h.inc"

#define GET_OP_CLASSES
#include "ir/graph/GraphOps.h.inc"

#endif // LATHE_IR_GRAPH_GRAPH_H
