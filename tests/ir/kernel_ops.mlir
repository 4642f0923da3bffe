// Round trip of every attribute and operation of the kernel dialect.
//
// RUN: infer-opt %s | infer-opt | FileCheck %s
// RUN: infer-opt -mlir-print-op-generic %s | infer-opt | FileCheck %s

// CHECK-LABEL: kernel.func @mlp_in(
// CHECK-SAME: tensor<?x8xf32>
// CHECK-SAME: attributes {anchor = #kernel.anchor<linear>
// CHECK-SAME: schedule = #kernel.schedule<tokens = 4, prefill = false, form = int15>
kernel.func @mlp_in(%x: tensor<?x8xf32>, %norm: tensor<8xf32>,
                    %w: !graph.weight<4x8, bf16>) -> tensor<?x4xf32>
    attributes {anchor = #kernel.anchor<linear>,
                schedule = #kernel.schedule<tokens = 4, prefill = false,
                                            form = int15>} {
  %0 = graph.rms_norm %x, %norm eps 1.0e-6 : tensor<?x8xf32>, tensor<8xf32>
  %1 = graph.linear %0, %w
      : tensor<?x8xf32>, !graph.weight<4x8, bf16> -> tensor<?x4xf32>
  // CHECK: kernel.return %{{.*}} : tensor<?x4xf32>
  kernel.return %1 : tensor<?x4xf32>
}

// CHECK-LABEL: kernel.func private @nothing()
// CHECK-SAME: #kernel.anchor<elementwise>
kernel.func private @nothing()
    attributes {anchor = #kernel.anchor<elementwise>} {
  // CHECK: kernel.return
  kernel.return
}

// CHECK-LABEL: func.func @anchors
// CHECK-SAME: [#kernel.anchor<embedding>, #kernel.anchor<linear>, #kernel.anchor<delta>, #kernel.anchor<attention>, #kernel.anchor<norm>, #kernel.anchor<elementwise>]
// CHECK-SAME: form = f32>, #kernel.schedule<tokens = 512, prefill = true, form = int8>
func.func @anchors() attributes {
    anchors = [#kernel.anchor<embedding>, #kernel.anchor<linear>,
               #kernel.anchor<delta>, #kernel.anchor<attention>,
               #kernel.anchor<norm>, #kernel.anchor<elementwise>],
    schedules = [#kernel.schedule<tokens = 1, prefill = false, form = f32>,
                 #kernel.schedule<tokens = 512, prefill = true,
                                  form = int8>]} {
  return
}

// CHECK-LABEL: func.func @trunk
func.func @trunk(%x: tensor<?x8xf32>, %norm: tensor<8xf32>,
                 %w: !graph.weight<4x8, bf16>) -> tensor<?x4xf32> {
  // CHECK: kernel.launch @nothing() : () -> ()
  kernel.launch @nothing() : () -> ()
  // CHECK: kernel.launch @mlp_in(%{{[^)]*}})
  // CHECK-SAME: : (tensor<?x8xf32>, tensor<8xf32>, !graph.weight<4x8, bf16>)
  // CHECK-SAME: -> tensor<?x4xf32>
  %0 = kernel.launch @mlp_in(%x, %norm, %w)
      : (tensor<?x8xf32>, tensor<8xf32>, !graph.weight<4x8, bf16>)
      -> tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}
