// RUN: infer-opt %s --fuse-kernels --assign-layouts --specialize-tokens="decode=2" --merge-kernels --plan-memory | FileCheck %s
// RUN: not infer-opt %s --fuse-kernels --plan-memory 2>&1 | FileCheck %s --check-prefix=ORDER

// ORDER: expected a lathe.schedule; run specialize-tokens first

// Two tokens of 32 floats are 256 bytes. The third buffer reuses the first
// one's place: a launch never writes what it reads, but the first buffer is
// dead by then.
// CHECK: plan.weight "a" <tiles> : !graph.weight<32x32, bf16>
// CHECK: plan.weight "b" <tiles>
// CHECK: plan.entry "chain" tokens 2 prefill false arena 512
// CHECK: plan.launch @linear_0 [#plan.ref<input 0>, #plan.ref<weight 0>, #plan.ref<arena 0>]
// CHECK: plan.launch @linear_0 [#plan.ref<arena 0>, #plan.ref<weight 1>, #plan.ref<arena 256>]
// CHECK: plan.launch @linear_0 [#plan.ref<arena 256>, #plan.ref<weight 0>, #plan.ref<arena 0>]
// CHECK: plan.launch @linear_0 [#plan.ref<arena 0>, #plan.ref<weight 1>, #plan.ref<output 0>]
func.func @chain(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %a = graph.weight "a" : !graph.weight<32x32, bf16>
  %b = graph.weight "b" : !graph.weight<32x32, bf16>
  %1 = graph.linear %x, %a : tensor<?x32xf32>, !graph.weight<32x32, bf16> -> tensor<?x32xf32>
  %2 = graph.linear %1, %b : tensor<?x32xf32>, !graph.weight<32x32, bf16> -> tensor<?x32xf32>
  %3 = graph.linear %2, %a : tensor<?x32xf32>, !graph.weight<32x32, bf16> -> tensor<?x32xf32>
  %4 = graph.linear %3, %b : tensor<?x32xf32>, !graph.weight<32x32, bf16> -> tensor<?x32xf32>
  return %4 : tensor<?x32xf32>
}
