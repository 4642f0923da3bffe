// RUN: infer-opt %s --replay-states | FileCheck %s

// Types change, in arguments, operations and results alike; kv stays.
// CHECK: func.func @f(%{{.*}}: !graph.conv<3x16, replay> {lathe.name = "s"}, %{{.*}}: !graph.kv<1x16>
// CHECK-SAME: -> (tensor<?x16xf32>, !graph.conv<3x16, replay>)
// CHECK: graph.short_conv {{.*}} <3x16, replay>
func.func @f(%x: tensor<?x16xf32>, %s: !graph.conv<3x16> {lathe.name = "s"}, %kv: !graph.kv<1x16>) -> (tensor<?x16xf32>, !graph.conv<3x16>) {
  %w = graph.weight "w" : tensor<16x4xf32>
  %y, %n = graph.short_conv %x, %w, %s : tensor<?x16xf32>, tensor<16x4xf32>, !graph.conv<3x16>
  return %y, %n : tensor<?x16xf32>, !graph.conv<3x16>
}

// CHECK: func.func @g(%{{.*}}: !graph.recurrent<4x16x16, replay>) -> !graph.recurrent<4x16x16, replay>
func.func @g(%s: !graph.recurrent<4x16x16>) -> !graph.recurrent<4x16x16> {
  return %s : !graph.recurrent<4x16x16>
}
