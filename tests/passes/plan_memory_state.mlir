// RUN: infer-opt %s --plan-memory --verify-diagnostics

// A state is updated in place, so nobody may read the old one afterwards.
kernel.func @conv(%x: tensor<?x16xf32>, %w: tensor<16x4xf32>, %s: !graph.conv<3x16>) -> (tensor<?x16xf32>, !graph.conv<3x16>) attributes {anchor = #kernel.anchor<delta>} {
  %y, %n = graph.short_conv %x, %w, %s : tensor<?x16xf32>, tensor<16x4xf32>, !graph.conv<3x16>
  kernel.return %y, %n : tensor<?x16xf32>, !graph.conv<3x16>
}
func.func @f(%x: tensor<?x16xf32>, %s: !graph.conv<3x16> {lathe.name = "s"}) -> (tensor<?x16xf32>, tensor<?x16xf32>, !graph.conv<3x16>) attributes {lathe.schedule = #kernel.schedule<tokens = 1, prefill = false, form = f32>} {
  %w = graph.weight "w" {lathe.layout = #plan.layout<transposed>} : tensor<16x4xf32>
  // expected-error @+1 {{updates a state in place that is read later}}
  %0, %1 = kernel.launch @conv(%x, %w, %s) : (tensor<?x16xf32>, tensor<16x4xf32>, !graph.conv<3x16>) -> (tensor<?x16xf32>, !graph.conv<3x16>)
  %2, %3 = kernel.launch @conv(%0, %w, %s) : (tensor<?x16xf32>, tensor<16x4xf32>, !graph.conv<3x16>) -> (tensor<?x16xf32>, !graph.conv<3x16>)
  return %0, %2, %3 : tensor<?x16xf32>, tensor<?x16xf32>, !graph.conv<3x16>
}
