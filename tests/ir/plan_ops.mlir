// Round trip of every attribute and operation of the plan dialect.
//
// RUN: infer-opt %s | infer-opt | FileCheck %s
// RUN: infer-opt -mlir-print-op-generic %s | infer-opt | FileCheck %s

// CHECK: plan.weight "head" <tiles> : !graph.weight<8x32, nvfp4>
plan.weight "head" <tiles> : !graph.weight<8x32, nvfp4>
// CHECK: plan.weight "table" <rows> : !graph.weight<8x32, bf16>
plan.weight "table" <rows> : !graph.weight<8x32, bf16>
// CHECK: plan.weight "norm" <vector> : tensor<32xf32>
plan.weight "norm" <vector> : tensor<32xf32>
// CHECK: plan.weight "conv" <transposed> : tensor<32x4xf32>
plan.weight "conv" <transposed> : tensor<32x4xf32>

// CHECK: plan.state "layers.0.kv" : !graph.kv<2x16>
plan.state "layers.0.kv" : !graph.kv<2x16>

// CHECK: plan.entry "trunk" tokens 1 prefill false arena 4096
// CHECK-SAME: [tensor<?xi32>, index] -> [tensor<?x8xf32>]
plan.entry "trunk" tokens 1 prefill false arena 4096
    [tensor<?xi32>, index] -> [tensor<?x8xf32>] {
  // CHECK: plan.launch @embed [#plan.ref<input 0>, #plan.ref<weight 1>,
  // CHECK-SAME: #plan.ref<arena 64>]
  plan.launch @embed [#plan.ref<input 0>, #plan.ref<weight 1>,
                      #plan.ref<arena 64>]
  // CHECK: plan.launch @head [#plan.ref<arena 64>, #plan.ref<state 0>,
  // CHECK-SAME: #plan.ref<output 0>]
  plan.launch @head [#plan.ref<arena 64>, #plan.ref<state 0>,
                     #plan.ref<output 0>]
}
