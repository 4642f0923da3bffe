// Round trip of every type and operation of the graph dialect. Operations print
// their weight and state types without the mnemonic and accept both.
//
// RUN: infer-opt %s | infer-opt | FileCheck %s
// RUN: infer-opt -mlir-print-op-generic %s | infer-opt | FileCheck %s

// CHECK-LABEL: func.func @types
// CHECK-SAME: !graph.weight<8x4, f32>
// CHECK-SAME: !graph.weight<8x4, f16>
// CHECK-SAME: !graph.weight<8x4, bf16>
// CHECK-SAME: !graph.weight<8x256, int4, 128>
// CHECK-SAME: !graph.weight<8x256, int4_asym, 32>
// CHECK-SAME: !graph.weight<8x32, nvfp4>
// CHECK-SAME: !graph.kv<2x16>
// CHECK-SAME: !graph.conv<3x64>
// CHECK-SAME: !graph.recurrent<4x8x16>
func.func @types(%f32: !graph.weight<8x4, f32>, %f16: !graph.weight<8x4, f16>,
                 %bf16: !graph.weight<8x4, bf16>,
                 %int4: !graph.weight<8x256, int4, 128>,
                 %asymmetric: !graph.weight<8x256, int4_asym, 32>,
                 %nvfp4: !graph.weight<8x32, nvfp4>, %kv: !graph.kv<2x16>,
                 %conv: !graph.conv<3x64>,
                 %recurrent: !graph.recurrent<4x8x16>) {
  return
}

// CHECK-LABEL: func.func @weight
func.func @weight() {
  // CHECK: graph.weight "a" : !graph.weight<8x4, bf16>
  %0 = graph.weight "a" : !graph.weight<8x4, bf16>
  // CHECK: graph.weight "b" : tensor<8xf32>
  %1 = graph.weight "b" : tensor<8xf32>
  // CHECK: graph.weight "c" : tensor<8x4xf32>
  %2 = graph.weight "c" : tensor<8x4xf32>
  return
}

// CHECK-LABEL: func.func @elementwise
func.func @elementwise(%x: tensor<?x8xf32>, %y: tensor<?x8xf32>) {
  // CHECK: graph.silu %{{[^ ]+}} : tensor<?x8xf32>
  %0 = graph.silu %x : tensor<?x8xf32>
  // CHECK: graph.sigmoid %{{[^ ]+}} : tensor<?x8xf32>
  %1 = graph.sigmoid %x : tensor<?x8xf32>
  // CHECK: graph.add %{{[^ ]+}}, %{{[^ ]+}} : tensor<?x8xf32>
  %2 = graph.add %x, %y : tensor<?x8xf32>
  // CHECK: graph.mul %{{[^ ]+}}, %{{[^ ]+}} : tensor<?x8xf32>
  %3 = graph.mul %x, %y : tensor<?x8xf32>
  // CHECK: graph.swiglu %{{[^ ]+}}, %{{[^ ]+}} : tensor<?x8xf32>
  %4 = graph.swiglu %x, %y : tensor<?x8xf32>
  return
}

// CHECK-LABEL: func.func @shape
func.func @shape(%x: tensor<?x8xf32>, %y: tensor<?x4xf32>) {
  // CHECK: graph.slice %{{[^ ]+}} group 4 offset 1 size 2
  // CHECK-SAME: : tensor<?x8xf32> -> tensor<?x4xf32>
  %0 = graph.slice %x group 4 offset 1 size 2
      : tensor<?x8xf32> -> tensor<?x4xf32>
  // CHECK: graph.concat %{{[^ ]+}}, %{{[^ ]+}}
  // CHECK-SAME: : tensor<?x8xf32>, tensor<?x4xf32> -> tensor<?x12xf32>
  %1 = graph.concat %x, %y
      : tensor<?x8xf32>, tensor<?x4xf32> -> tensor<?x12xf32>
  return
}

// CHECK-LABEL: func.func @norm_and_position
func.func @norm_and_position(%x: tensor<?x8xf32>, %w: tensor<4xf32>,
                             %position: index) {
  // CHECK: graph.rms_norm %{{[^ ]+}}, %{{[^ ]+}} eps 2.500000e-01
  // CHECK-SAME: : tensor<?x8xf32>, tensor<4xf32>
  %0 = graph.rms_norm %x, %w eps 0.25 : tensor<?x8xf32>, tensor<4xf32>
  // CHECK: graph.rms_norm %{{[^ ]+}}, %{{[^ ]+}} eps 2.500000e-01 plus_one
  %1 = graph.rms_norm %x, %w eps 0.25 plus_one
      : tensor<?x8xf32>, tensor<4xf32>
  // CHECK: graph.l2_norm %{{[^ ]+}} group 4 eps 2.500000e-01 scale 5.000000e-01
  %2 = graph.l2_norm %x group 4 eps 0.25 scale 0.5 : tensor<?x8xf32>
  // CHECK: graph.rope %{{[^ ]+}} at %{{[^ ]+}} head_dim 4 rotary_dim 2
  // CHECK-SAME: theta 1.000000e+07 : tensor<?x8xf32>
  %3 = graph.rope %x at %position head_dim 4 rotary_dim 2 theta 1.0e7
      : tensor<?x8xf32>
  return
}

// CHECK-LABEL: func.func @linear_algebra
func.func @linear_algebra(%tokens: tensor<?xi32>, %x: tensor<?x32xf32>,
                          %w: !graph.weight<8x32, nvfp4>) {
  // CHECK: graph.embedding %{{[^ ]+}}, %{{[^ ]+}} : tensor<?xi32>,
  // CHECK-SAME: <8x32, nvfp4> -> tensor<?x32xf32>
  %0 = graph.embedding %tokens, %w
      : tensor<?xi32>, !graph.weight<8x32, nvfp4> -> tensor<?x32xf32>
  // CHECK: graph.linear %{{[^ ]+}}, %{{[^ ]+}} : tensor<?x32xf32>,
  // CHECK-SAME: <8x32, nvfp4> -> tensor<?x8xf32>
  %1 = graph.linear %x, %w
      : tensor<?x32xf32>, !graph.weight<8x32, nvfp4> -> tensor<?x8xf32>
  return
}

// CHECK-LABEL: func.func @short_conv
func.func @short_conv(%x: tensor<?x8xf32>, %w: tensor<8x4xf32>,
                      %state: !graph.conv<3x8>)
    -> (tensor<?x8xf32>, !graph.conv<3x8>) {
  // CHECK: graph.short_conv %{{.+}} : tensor<?x8xf32>,
  // CHECK-SAME: tensor<8x4xf32>, <3x8>
  %y, %next = graph.short_conv %x, %w, %state
      : tensor<?x8xf32>, tensor<8x4xf32>, !graph.conv<3x8>
  return %y, %next : tensor<?x8xf32>, !graph.conv<3x8>
}

// CHECK-LABEL: func.func @delta
func.func @delta(%q: tensor<?x16xf32>, %k: tensor<?x16xf32>,
                 %v: tensor<?x32xf32>, %a: tensor<?x4xf32>,
                 %b: tensor<?x4xf32>, %p: tensor<4xf32>,
                 %state: !graph.recurrent<4x8x8>)
    -> (tensor<?x32xf32>, !graph.recurrent<4x8x8>) {
  // CHECK: graph.delta_gates %{{[^ ]+}}, %{{[^ ]+}}, %{{[^ ]+}}, %{{[^ ]+}}
  // CHECK-SAME: : tensor<?x4xf32>, tensor<4xf32>
  %decay, %beta = graph.delta_gates %a, %b, %p, %p
      : tensor<?x4xf32>, tensor<4xf32>
  // CHECK: graph.delta_rule %{{.+}} key_heads 2
  // CHECK-SAME: : tensor<?x16xf32>, tensor<?x32xf32>,
  // CHECK-SAME: tensor<?x4xf32>, <4x8x8>
  %y, %next = graph.delta_rule %q, %k, %v, %decay, %beta, %state key_heads 2
      : tensor<?x16xf32>, tensor<?x32xf32>, tensor<?x4xf32>,
        !graph.recurrent<4x8x8>
  return %y, %next : tensor<?x32xf32>, !graph.recurrent<4x8x8>
}

// CHECK-LABEL: func.func @attention
func.func @attention(%q: tensor<?x64xf32>, %k: tensor<?x16xf32>,
                     %v: tensor<?x16xf32>, %state: !graph.kv<2x8>,
                     %position: index) -> (tensor<?x64xf32>, !graph.kv<2x8>) {
  // CHECK: graph.attention %{{.+}} at %{{[^ ]+}} scale 2.500000e-01
  // CHECK-SAME: : tensor<?x64xf32>, tensor<?x16xf32>,
  // CHECK-SAME: <2x8>
  %y, %next = graph.attention %q, %k, %v, %state at %position scale 0.25
      : tensor<?x64xf32>, tensor<?x16xf32>, !graph.kv<2x8>
  return %y, %next : tensor<?x64xf32>, !graph.kv<2x8>
}
