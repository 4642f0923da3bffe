// RUN: infer-opt %s --fuse-kernels --split-input-file | FileCheck %s

// Linears that read the same norm are one kernel with the norm as prologue;
// silu of one of them is its epilogue.
// CHECK-LABEL: kernel.func @siblings.0
// CHECK-SAME: anchor = #kernel.anchor<linear>
// CHECK: graph.rms_norm
// CHECK: graph.linear
// CHECK: graph.linear
// CHECK: graph.silu
// CHECK: kernel.return
// CHECK-LABEL: func.func @siblings
// CHECK-COUNT-1: kernel.launch @siblings.0
// CHECK-NOT: kernel.launch
func.func @siblings(%x: tensor<?x32xf32>) -> (tensor<?x16xf32>, tensor<?x48xf32>) {
  %n = graph.weight "n" : tensor<32xf32>
  %a = graph.weight "a" : !graph.weight<16x32, bf16>
  %b = graph.weight "b" : !graph.weight<48x32, bf16>
  %h = graph.rms_norm %x, %n eps 1.0e-6 plus_one : tensor<?x32xf32>, tensor<32xf32>
  %y = graph.linear %h, %a : tensor<?x32xf32>, !graph.weight<16x32, bf16> -> tensor<?x16xf32>
  %z = graph.linear %h, %b : tensor<?x32xf32>, !graph.weight<48x32, bf16> -> tensor<?x48xf32>
  %s = graph.silu %z : tensor<?x48xf32>
  return %y, %s : tensor<?x16xf32>, tensor<?x48xf32>
}

// -----

// A SwiGLU MLP is two kernels: gate and up with swiglu behind them, down with
// the residual.
// CHECK-LABEL: kernel.func @mlp.0
// CHECK: graph.swiglu
// CHECK-LABEL: kernel.func @mlp.1
// CHECK: graph.linear
// CHECK-NEXT: graph.add
// CHECK-LABEL: func.func @mlp
// CHECK: %[[H:.*]] = kernel.launch @mlp.0
// CHECK: kernel.launch @mlp.1
func.func @mlp(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %n = graph.weight "n" : tensor<32xf32>
  %g = graph.weight "g" : !graph.weight<64x32, bf16>
  %u = graph.weight "u" : !graph.weight<64x32, bf16>
  %d = graph.weight "d" : !graph.weight<32x64, bf16>
  %h = graph.rms_norm %x, %n eps 1.0e-6 : tensor<?x32xf32>, tensor<32xf32>
  %gate = graph.linear %h, %g : tensor<?x32xf32>, !graph.weight<64x32, bf16> -> tensor<?x64xf32>
  %up = graph.linear %h, %u : tensor<?x32xf32>, !graph.weight<64x32, bf16> -> tensor<?x64xf32>
  %act = graph.swiglu %gate, %up : tensor<?x64xf32>
  %y = graph.linear %act, %d : tensor<?x64xf32>, !graph.weight<32x64, bf16> -> tensor<?x32xf32>
  %r = graph.add %x, %y : tensor<?x32xf32>
  return %r : tensor<?x32xf32>
}

// -----

// Attention takes its norms and rotary embedding along and returns the updated
// cache; the gate goes into the output projection.
// CHECK-LABEL: kernel.func @attention.0
// CHECK-SAME: anchor = #kernel.anchor<attention>
// CHECK: graph.slice
// CHECK: graph.rms_norm
// CHECK: graph.rope
// CHECK: graph.attention
// CHECK-LABEL: kernel.func @attention.1
// CHECK-SAME: anchor = #kernel.anchor<linear>
// CHECK: graph.slice
// CHECK: graph.sigmoid
// CHECK: graph.mul
// CHECK: graph.linear
func.func @attention(%qg: tensor<?x64xf32>, %k: tensor<?x16xf32>, %v: tensor<?x16xf32>, %p: index, %kv: !graph.kv<1x16>) -> (tensor<?x32xf32>, !graph.kv<1x16>) {
  %qn = graph.weight "qn" : tensor<16xf32>
  %kn = graph.weight "kn" : tensor<16xf32>
  %o = graph.weight "o" : !graph.weight<32x32, bf16>
  %q = graph.slice %qg group 32 offset 0 size 16 : tensor<?x64xf32> -> tensor<?x32xf32>
  %gate = graph.slice %qg group 32 offset 16 size 16 : tensor<?x64xf32> -> tensor<?x32xf32>
  %q1 = graph.rms_norm %q, %qn eps 1.0e-6 plus_one : tensor<?x32xf32>, tensor<16xf32>
  %q2 = graph.rope %q1 at %p head_dim 16 rotary_dim 4 theta 1.0e4 : tensor<?x32xf32>
  %k1 = graph.rms_norm %k, %kn eps 1.0e-6 plus_one : tensor<?x16xf32>, tensor<16xf32>
  %k2 = graph.rope %k1 at %p head_dim 16 rotary_dim 4 theta 1.0e4 : tensor<?x16xf32>
  %a, %kv1 = graph.attention %q2, %k2, %v, %kv at %p scale 0.25 : tensor<?x32xf32>, tensor<?x16xf32>, !graph.kv<1x16>
  %s = graph.sigmoid %gate : tensor<?x32xf32>
  %m = graph.mul %a, %s : tensor<?x32xf32>
  %y = graph.linear %m, %o : tensor<?x32xf32>, !graph.weight<32x32, bf16> -> tensor<?x32xf32>
  return %y, %kv1 : tensor<?x32xf32>, !graph.kv<1x16>
}

// -----

// The delta rule takes convolution, norms and gates along.
// CHECK-LABEL: kernel.func @delta.0
// CHECK-SAME: anchor = #kernel.anchor<delta>
// CHECK: graph.short_conv
// CHECK: graph.delta_gates
// CHECK: graph.delta_rule
// CHECK-LABEL: func.func @delta
// CHECK-COUNT-1: kernel.launch
// CHECK-NOT: kernel.launch
func.func @delta(%u: tensor<?x48xf32>, %a: tensor<?x1xf32>, %b: tensor<?x1xf32>, %c: !graph.conv<3x48>, %s: !graph.recurrent<1x16x16>) -> (tensor<?x16xf32>, !graph.conv<3x48>, !graph.recurrent<1x16x16>) {
  %w = graph.weight "w" : tensor<48x4xf32>
  %al = graph.weight "al" : tensor<1xf32>
  %dt = graph.weight "dt" : tensor<1xf32>
  %y, %c1 = graph.short_conv %u, %w, %c : tensor<?x48xf32>, tensor<48x4xf32>, !graph.conv<3x48>
  %q0 = graph.slice %y group 48 offset 0 size 16 : tensor<?x48xf32> -> tensor<?x16xf32>
  %k0 = graph.slice %y group 48 offset 16 size 16 : tensor<?x48xf32> -> tensor<?x16xf32>
  %v = graph.slice %y group 48 offset 32 size 16 : tensor<?x48xf32> -> tensor<?x16xf32>
  %q = graph.l2_norm %q0 group 16 eps 1.0e-6 scale 0.25 : tensor<?x16xf32>
  %k = graph.l2_norm %k0 group 16 eps 1.0e-6 scale 1.0 : tensor<?x16xf32>
  %g, %beta = graph.delta_gates %a, %b, %al, %dt : tensor<?x1xf32>, tensor<1xf32>
  %o, %s1 = graph.delta_rule %q, %k, %v, %g, %beta, %s key_heads 1 : tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x1xf32>, !graph.recurrent<1x16x16>
  return %o, %c1, %s1 : tensor<?x16xf32>, !graph.conv<3x48>, !graph.recurrent<1x16x16>
}
