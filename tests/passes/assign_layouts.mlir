// RUN: infer-opt %s --fuse-kernels --assign-layouts --split-input-file | FileCheck %s

// What is multiplied lies in tiles, a dense table in rows, taps transposed.
// CHECK-LABEL: func.func @untied
// CHECK-DAG: graph.weight "table" {lathe.layout = #plan.layout<rows>}
// CHECK-DAG: graph.weight "head" {lathe.layout = #plan.layout<tiles>}
// CHECK-DAG: graph.weight "norm" {lathe.layout = #plan.layout<vector>}
func.func @untied(%t: tensor<?xi32>) -> tensor<?x64xf32> {
  %table = graph.weight "table" : !graph.weight<64x32, bf16>
  %head = graph.weight "head" : !graph.weight<64x32, bf16>
  %norm = graph.weight "norm" : tensor<32xf32>
  %x = graph.embedding %t, %table : tensor<?xi32>, !graph.weight<64x32, bf16> -> tensor<?x32xf32>
  %h = graph.rms_norm %x, %norm eps 1.0e-6 : tensor<?x32xf32>, tensor<32xf32>
  %y = graph.linear %h, %head : tensor<?x32xf32>, !graph.weight<64x32, bf16> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}

// -----

// A table that is also the head is kept once, in tiles, and the kernel that
// gathers from it knows.
// CHECK-LABEL: kernel.func @tied.0
// CHECK-SAME: {lathe.layout = #plan.layout<tiles>}
// CHECK-SAME: anchor = #kernel.anchor<embedding>
// CHECK-LABEL: func.func @tied
// CHECK-COUNT-2: graph.weight "table" {lathe.layout = #plan.layout<tiles>}
func.func @tied(%t: tensor<?xi32>) -> tensor<?x64xf32> {
  %table = graph.weight "table" : !graph.weight<64x32, bf16>
  %head = graph.weight "table" : !graph.weight<64x32, bf16>
  %x = graph.embedding %t, %table : tensor<?xi32>, !graph.weight<64x32, bf16> -> tensor<?x32xf32>
  %y = graph.linear %x, %head : tensor<?x32xf32>, !graph.weight<64x32, bf16> -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}
