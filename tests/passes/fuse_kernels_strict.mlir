// RUN: infer-opt %s --fuse-kernels=strict --verify-diagnostics

func.func @alone(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  // expected-error @+1 {{misses its fused kernel}}
  %y = graph.silu %x : tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
