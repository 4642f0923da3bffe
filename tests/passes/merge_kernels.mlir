// RUN: infer-opt %s --merge-kernels | FileCheck %s

// CHECK-COUNT-1: kernel.func @linear_0(
// CHECK: kernel.func @linear_1(
// CHECK-NOT: kernel.func
// CHECK: kernel.launch @linear_0
// CHECK: kernel.launch @linear_0
// CHECK: kernel.launch @linear_1
kernel.func @a(%x: tensor<?x32xf32>, %w: !graph.weight<32x32, bf16>) -> tensor<?x32xf32> attributes {anchor = #kernel.anchor<linear>} {
  %y = graph.linear %x, %w : tensor<?x32xf32>, !graph.weight<32x32, bf16> -> tensor<?x32xf32>
  kernel.return %y : tensor<?x32xf32>
}
kernel.func @b(%x: tensor<?x32xf32>, %w: !graph.weight<32x32, bf16>) -> tensor<?x32xf32> attributes {anchor = #kernel.anchor<linear>} {
  %y = graph.linear %x, %w : tensor<?x32xf32>, !graph.weight<32x32, bf16> -> tensor<?x32xf32>
  kernel.return %y : tensor<?x32xf32>
}
kernel.func @c(%x: tensor<?x32xf32>, %w: !graph.weight<32x32, f16>) -> tensor<?x32xf32> attributes {anchor = #kernel.anchor<linear>} {
  %y = graph.linear %x, %w : tensor<?x32xf32>, !graph.weight<32x32, f16> -> tensor<?x32xf32>
  kernel.return %y : tensor<?x32xf32>
}
func.func @f(%x: tensor<?x32xf32>, %w: !graph.weight<32x32, bf16>, %v: !graph.weight<32x32, f16>) -> tensor<?x32xf32> {
  %0 = kernel.launch @a(%x, %w) : (tensor<?x32xf32>, !graph.weight<32x32, bf16>) -> tensor<?x32xf32>
  %1 = kernel.launch @b(%0, %w) : (tensor<?x32xf32>, !graph.weight<32x32, bf16>) -> tensor<?x32xf32>
  %2 = kernel.launch @c(%1, %v) : (tensor<?x32xf32>, !graph.weight<32x32, f16>) -> tensor<?x32xf32>
  return %2 : tensor<?x32xf32>
}
