// RUN: infer-opt %s --draft-head="rows=32 format=int4" | FileCheck %s
// RUN: infer-opt %s --draft-head="rows=32" | FileCheck %s --check-prefix=FULL
// RUN: infer-opt %s --draft-head="rows=32 format=int8" | FileCheck %s --check-prefix=INT8
// RUN: not infer-opt %s --draft-head="rows=65" 2>&1 | FileCheck %s --check-prefix=ROWS
// RUN: not infer-opt %s --draft-head="rows=32 format=int3" 2>&1 | FileCheck %s --check-prefix=FORMAT

// ROWS: rows: expected 1 to 64, found 65
// FORMAT: format: expected full, int8, int4 or nvfp4, found int3

// The head stays as it is.
// CHECK: func.func @head(
// CHECK: graph.weight "lm_head" : !graph.weight<64x128, bf16>
// CHECK: func.func @draft_head(%{{.*}}: tensor<?x128xf32>) -> tensor<?x32xf32> attributes {lathe.max_tokens = 1 : i64}
// CHECK: graph.weight "lm_head.draft" : !graph.weight<32x128, int4, 128>
// CHECK: graph.linear {{.*}} -> tensor<?x32xf32>
// INT8: func.func @draft_head(%[[X:.*]]: tensor<?x128xf32>)
// INT8: graph.weight "lm_head.draft" : !graph.weight<32x256, int4, 128>
// INT8: %[[TWICE:.*]] = graph.concat %[[X]], %[[X]]
// INT8: graph.linear %[[TWICE]], {{.*}} -> tensor<?x32xf32>
// FULL: graph.weight "lm_head.draft" : !graph.weight<32x128, bf16>
func.func @head(%x: tensor<?x128xf32>) -> tensor<?x64xf32> attributes {lathe.max_tokens = 16 : i64} {
  %w = graph.weight "lm_head" : !graph.weight<64x128, bf16>
  %y = graph.linear %x, %w : tensor<?x128xf32>, !graph.weight<64x128, bf16> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}
