// One misuse for each constraint of ir/SPEC.md, named after its label.
//
// RUN: infer-opt %s -split-input-file -verify-diagnostics

kernel.func @kernel_return_c1(%x: tensor<?x8xf32>) -> tensor<?x4xf32>
    attributes {anchor = #kernel.anchor<norm>} {
  // expected-error @+1 {{kernel_return_c1: expected the result types of @kernel_return_c1}}
  kernel.return %x : tensor<?x8xf32>
}

// -----

func.func @launch_c1() {
  // expected-error @+1 {{launch_c1: expected a kernel.func, found no @missing}}
  kernel.launch @missing() : () -> ()
  return
}

// -----

func.func @not_a_kernel() {
  return
}

func.func @launch_c1_func() {
  // expected-error @+1 {{launch_c1: expected a kernel.func, found no @not_a_kernel}}
  kernel.launch @not_a_kernel() : () -> ()
  return
}

// -----

kernel.func @identity(%x: tensor<?x8xf32>) -> tensor<?x8xf32>
    attributes {anchor = #kernel.anchor<elementwise>} {
  kernel.return %x : tensor<?x8xf32>
}

func.func @launch_c2(%x: tensor<?x4xf32>) {
  // expected-error @+1 {{launch_c2: expected the signature of @identity}}
  %0 = kernel.launch @identity(%x) : (tensor<?x4xf32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @return_outside(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{expects parent op 'kernel.func'}}
  kernel.return %x : tensor<?x8xf32>
}
