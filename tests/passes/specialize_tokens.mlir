// RUN: infer-opt %s --fuse-kernels --specialize-tokens="decode=1,4 prefill=64 prefill-form=int15" | FileCheck %s
// RUN: infer-opt %s --fuse-kernels --specialize-tokens="prefill=64" | FileCheck %s --check-prefix=MIXED
// RUN: not infer-opt %s --specialize-tokens="prefill-form=f32" 2>&1 | FileCheck %s --check-prefix=BAD

// RUN: infer-opt %s --fuse-kernels --specialize-tokens="decode=1 prefill=64 prefill-form=mixed decode-form=split" | FileCheck %s --check-prefix=GPU

// RUN: infer-opt %s --fuse-kernels --specialize-tokens="decode=1 decode-form=mixed" | FileCheck %s --check-prefix=DECODE
// RUN: not infer-opt %s --specialize-tokens="decode-form=int8" 2>&1 | FileCheck %s --check-prefix=BAD-DECODE

// BAD-DECODE: decode-form: expected int15, mixed, half or split, found int8

// On a GPU, mixed: half in front of 4-bit weights only.
// DECODE-DAG: kernel.func @f.0.t1({{.*}}form = split>
// DECODE-DAG: kernel.func @quantised.0.t1({{.*}}form = half>
func.func @quantised(%x: tensor<?x128xf32>) -> tensor<?x16xf32> {
  %a = graph.weight "a" : !graph.weight<16x128, int4, 128>
  %y = graph.linear %x, %a : tensor<?x128xf32>, !graph.weight<16x128, int4, 128> -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

// BAD: prefill-form: expected mixed, int8, int15, half or split, found f32

// GPU-DAG: kernel.func @f.0.t1({{.*}}form = split>
// GPU-DAG: kernel.func @f.0.p64({{.*}}form = split>

// CHECK-DAG: kernel.func @f.0.t1({{.*}}schedule = #kernel.schedule<tokens = 1, prefill = false, form = int15>
// CHECK-DAG: kernel.func @f.0.t4({{.*}}tokens = 4, prefill = false
// CHECK-DAG: kernel.func @f.0.p64({{.*}}tokens = 64, prefill = true
// CHECK-DAG: func.func @f.p64
// CHECK-DAG: kernel.launch @f.0.p64
// CHECK-NOT: func.func @f(
func.func @f(%x: tensor<?x32xf32>) -> tensor<?x16xf32> {
  %a = graph.weight "a" : !graph.weight<16x32, bf16>
  %y = graph.linear %x, %a : tensor<?x32xf32>, !graph.weight<16x32, bf16> -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

// A function may ask for less at once.
// CHECK-DAG: kernel.func @g.0.p64({{.*}}tokens = 8, prefill = true
func.func @g(%x: tensor<?x32xf32>) -> tensor<?x16xf32> attributes {lathe.max_tokens = 8 : i64} {
  %a = graph.weight "a" : !graph.weight<16x32, bf16>
  %y = graph.linear %x, %a : tensor<?x32xf32>, !graph.weight<16x32, bf16> -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

// Mixed: a byte for what a norm made, more for the rest.
// MIXED-DAG: kernel.func @f.0.p64({{.*}}form = int15
// MIXED-DAG: kernel.func @normed.0.p64({{.*}}form = int8
func.func @normed(%x: tensor<?x32xf32>) -> tensor<?x16xf32> {
  %n = graph.weight "n" : tensor<32xf32>
  %a = graph.weight "a" : !graph.weight<16x32, bf16>
  %h = graph.rms_norm %x, %n eps 1.0e-6 : tensor<?x32xf32>, tensor<32xf32>
  %y = graph.linear %h, %a : tensor<?x32xf32>, !graph.weight<16x32, bf16> -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

// A function for one token has no use for copies for more.
// CHECK-DAG: func.func @one.t1
// CHECK-NOT: func.func @one.t4
// CHECK-NOT: func.func @one.p64
func.func @one(%x: tensor<?x32xf32>) -> tensor<?x16xf32> attributes {lathe.max_tokens = 1 : i64} {
  %a = graph.weight "a" : !graph.weight<16x32, bf16>
  %y = graph.linear %x, %a : tensor<?x32xf32>, !graph.weight<16x32, bf16> -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}
