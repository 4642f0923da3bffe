// One misuse for each constraint of ir/SPEC.md, named after its label.
//
// RUN: infer-opt %s -split-input-file -verify-diagnostics

// expected-error @+1 {{weight_type_c1: expected positive dimensions, found 0x16}}
func.func @weight_type_c1(!graph.weight<0x16, f32>) {
  return
}

// -----

// expected-error @+1 {{weight_type_c2: expected a group size that is a multiple of 16 and divides the 256 columns, found 24}}
func.func @weight_type_c2(!graph.weight<8x256, int4, 24>) {
  return
}

// -----

// expected-error @+1 {{weight_type_c2: expected a group size that is a multiple of 16 and divides the 40 columns, found 16}}
func.func @weight_type_c2_nvfp4(!graph.weight<8x40, nvfp4>) {
  return
}

// -----

func.func @weight_c1() {
  // expected-error @+1 {{weight_c1: expected a non-empty name}}
  %0 = graph.weight "" : tensor<8xf32>
  return
}

// -----

func.func @slice_c1(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{slice_c1: expected a group that divides 8, found 3}}
  %0 = graph.slice %x group 3 offset 0 size 1
      : tensor<?x8xf32> -> tensor<?x2xf32>
  return
}

// -----

func.func @slice_c2(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{slice_c2: expected a range inside the group of 4, found offset 2 size 3}}
  %0 = graph.slice %x group 4 offset 2 size 3
      : tensor<?x8xf32> -> tensor<?x6xf32>
  return
}

// -----

func.func @slice_c3(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{slice_c3: expected result width 4, found 2}}
  %0 = graph.slice %x group 4 offset 0 size 2
      : tensor<?x8xf32> -> tensor<?x2xf32>
  return
}

// -----

func.func @concat_c1() {
  // expected-error @+1 {{concat_c1: expected at least one input}}
  %0 = "graph.concat"() : () -> tensor<?x8xf32>
  return
}

// -----

func.func @concat_c2(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{concat_c2: expected result width 16, found 8}}
  %0 = graph.concat %x, %x
      : tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @rms_norm_c1(%x: tensor<?x8xf32>, %w: tensor<3xf32>) {
  // expected-error @+1 {{rms_norm_c1: expected a weight length that divides 8, found 3}}
  %0 = graph.rms_norm %x, %w eps 1.0e-6 : tensor<?x8xf32>, tensor<3xf32>
  return
}

// -----

func.func @rms_norm_c2(%x: tensor<?x8xf32>, %w: tensor<8xf32>) {
  // expected-error @+1 {{rms_norm_c2: expected a positive eps, found 0}}
  %0 = graph.rms_norm %x, %w eps 0.0 : tensor<?x8xf32>, tensor<8xf32>
  return
}

// -----

func.func @l2_norm_c1(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{l2_norm_c1: expected a group that divides 8, found 5}}
  %0 = graph.l2_norm %x group 5 eps 1.0e-6 scale 1.0 : tensor<?x8xf32>
  return
}

// -----

func.func @l2_norm_c2(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{l2_norm_c2: expected a positive eps, found -1}}
  %0 = graph.l2_norm %x group 8 eps -1.0 scale 1.0 : tensor<?x8xf32>
  return
}

// -----

func.func @rope_c1(%x: tensor<?x8xf32>, %position: index) {
  // expected-error @+1 {{rope_c1: expected a head_dim that divides 8, found 6}}
  %0 = graph.rope %x at %position head_dim 6 rotary_dim 2 theta 1.0e4
      : tensor<?x8xf32>
  return
}

// -----

func.func @rope_c2(%x: tensor<?x8xf32>, %position: index) {
  // expected-error @+1 {{rope_c2: expected an even rotary_dim of at most 4, found 3}}
  %0 = graph.rope %x at %position head_dim 4 rotary_dim 3 theta 1.0e4
      : tensor<?x8xf32>
  return
}

// -----

func.func @rope_c3(%x: tensor<?x8xf32>, %position: index) {
  // expected-error @+1 {{rope_c3: expected a positive theta, found 0}}
  %0 = graph.rope %x at %position head_dim 4 rotary_dim 4 theta 0.0
      : tensor<?x8xf32>
  return
}

// -----

func.func @embedding_c1(%tokens: tensor<?xi32>, %w: !graph.weight<8x4, f32>) {
  // expected-error @+1 {{embedding_c1: expected result width 4, found 8}}
  %0 = graph.embedding %tokens, %w
      : tensor<?xi32>, !graph.weight<8x4, f32> -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c1(%x: tensor<?x8xf32>, %w: !graph.weight<8x4, f32>) {
  // expected-error @+1 {{linear_c1: expected input width 4, found 8}}
  %0 = graph.linear %x, %w
      : tensor<?x8xf32>, !graph.weight<8x4, f32> -> tensor<?x8xf32>
  return
}

// -----

func.func @linear_c2(%x: tensor<?x4xf32>, %w: !graph.weight<8x4, f32>) {
  // expected-error @+1 {{linear_c2: expected result width 8, found 4}}
  %0 = graph.linear %x, %w
      : tensor<?x4xf32>, !graph.weight<8x4, f32> -> tensor<?x4xf32>
  return
}

// -----

func.func @short_conv_c1(%x: tensor<?x8xf32>, %w: tensor<4x4xf32>,
                         %state: !graph.conv<3x8>) {
  // expected-error @+1 {{short_conv_c1: expected weight rows 8, found 4}}
  %0, %1 = graph.short_conv %x, %w, %state
      : tensor<?x8xf32>, tensor<4x4xf32>, !graph.conv<3x8>
  return
}

// -----

func.func @short_conv_c2(%x: tensor<?x8xf32>, %w: tensor<8x4xf32>,
                         %state: !graph.conv<3x4>) {
  // expected-error @+1 {{short_conv_c2: expected state channels 8, found 4}}
  %0, %1 = graph.short_conv %x, %w, %state
      : tensor<?x8xf32>, tensor<8x4xf32>, !graph.conv<3x4>
  return
}

// -----

func.func @short_conv_c3(%x: tensor<?x8xf32>, %w: tensor<8x4xf32>,
                         %state: !graph.conv<4x8>) {
  // expected-error @+1 {{short_conv_c3: expected state steps 3, found 4}}
  %0, %1 = graph.short_conv %x, %w, %state
      : tensor<?x8xf32>, tensor<8x4xf32>, !graph.conv<4x8>
  return
}

// -----

func.func @delta_gates_c1(%a: tensor<?x4xf32>, %p: tensor<2xf32>) {
  // expected-error @+1 {{delta_gates_c1: expected parameter length 4, found 2}}
  %0, %1 = graph.delta_gates %a, %a, %p, %p : tensor<?x4xf32>, tensor<2xf32>
  return
}

// -----

func.func @delta_rule_c1(%q: tensor<?x24xf32>, %v: tensor<?x32xf32>,
                         %g: tensor<?x4xf32>,
                         %state: !graph.recurrent<4x8x8>) {
  // expected-error @+1 {{delta_rule_c1: expected a number of key_heads that divides 4, found 3}}
  %0, %1 = graph.delta_rule %q, %q, %v, %g, %g, %state key_heads 3
      : tensor<?x24xf32>, tensor<?x32xf32>, tensor<?x4xf32>,
        !graph.recurrent<4x8x8>
  return
}

// -----

func.func @delta_rule_c2(%q: tensor<?x32xf32>, %v: tensor<?x32xf32>,
                         %g: tensor<?x4xf32>,
                         %state: !graph.recurrent<4x8x8>) {
  // expected-error @+1 {{delta_rule_c2: expected query and key width 16, found 32}}
  %0, %1 = graph.delta_rule %q, %q, %v, %g, %g, %state key_heads 2
      : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x4xf32>,
        !graph.recurrent<4x8x8>
  return
}

// -----

func.func @delta_rule_c3(%q: tensor<?x16xf32>, %v: tensor<?x16xf32>,
                         %g: tensor<?x4xf32>,
                         %state: !graph.recurrent<4x8x8>) {
  // expected-error @+1 {{delta_rule_c3: expected value width 32, found 16}}
  %0, %1 = graph.delta_rule %q, %q, %v, %g, %g, %state key_heads 2
      : tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x4xf32>,
        !graph.recurrent<4x8x8>
  return
}

// -----

func.func @delta_rule_c4(%q: tensor<?x16xf32>, %v: tensor<?x32xf32>,
                         %g: tensor<?x2xf32>,
                         %state: !graph.recurrent<4x8x8>) {
  // expected-error @+1 {{delta_rule_c4: expected gate width 4, found 2}}
  %0, %1 = graph.delta_rule %q, %q, %v, %g, %g, %state key_heads 2
      : tensor<?x16xf32>, tensor<?x32xf32>, tensor<?x2xf32>,
        !graph.recurrent<4x8x8>
  return
}

// -----

func.func @attention_c1(%q: tensor<?x64xf32>, %k: tensor<?x8xf32>,
                        %state: !graph.kv<2x8>, %position: index) {
  // expected-error @+1 {{attention_c1: expected key and value width 16, found 8}}
  %0, %1 = graph.attention %q, %k, %k, %state at %position scale 0.25
      : tensor<?x64xf32>, tensor<?x8xf32>, !graph.kv<2x8>
  return
}

// -----

func.func @attention_c2(%q: tensor<?x24xf32>, %k: tensor<?x16xf32>,
                        %state: !graph.kv<2x8>, %position: index) {
  // expected-error @+1 {{attention_c2: expected a kv width that divides 24, found 16}}
  %0, %1 = graph.attention %q, %k, %k, %state at %position scale 0.25
      : tensor<?x24xf32>, tensor<?x16xf32>, !graph.kv<2x8>
  return
}
