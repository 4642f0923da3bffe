//===- GraphOps.td - the operations of the graph dialect ------------------===//
//
// Labels such as `rms_norm_c1` name the constraints of ir/SPEC.md; the
// verifier and the negative tests carry the same labels.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_IR_GRAPH_GRAPHOPS_TD
#define LATHE_IR_GRAPH_GRAPHOPS_TD

include "ir/graph/GraphDialect.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Graph_Op<string mnemonic, list<Trait> traits = []>
    : Op<Graph_Dialect, mnemonic, !listconcat(traits, [Pure])>;

/// One row per token, `width` columns.
def Graph_Activation : Type<CPred<"::lathe::graph::isActivation($_self)">,
                            "activation (tensor<?xWxf32>)",
                            "::mlir::RankedTensorType">;
def Graph_Tokens : Type<CPred<"::lathe::graph::isTokens($_self)">,
                        "token ids (tensor<?xi32>)",
                        "::mlir::RankedTensorType">;
def Graph_Vector : Type<CPred<"::lathe::graph::isStaticF32($_self, 1)">,
                        "parameter vector (tensor<Nxf32>)",
                        "::mlir::RankedTensorType">;
def Graph_Matrix : Type<CPred<"::lathe::graph::isStaticF32($_self, 2)">,
                        "parameter matrix (tensor<NxMxf32>)",
                        "::mlir::RankedTensorType">;

//===----------------------------------------------------------------------===//
// Parameters
//===----------------------------------------------------------------------===//

def Graph_WeightOp : Graph_Op<"weight"> {
  let summary = "A parameter of the checkpoint";
  let arguments = (ins StrAttr:$name);
  let results = (outs AnyTypeOf<[Graph_WeightType, Graph_Vector,
                                 Graph_Matrix]>:$result);
  let assemblyFormat = "$name attr-dict `:` type($result)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Elementwise
//===----------------------------------------------------------------------===//

class Graph_UnaryOp<string mnemonic>
    : Graph_Op<mnemonic, [SameOperandsAndResultType]> {
  let arguments = (ins Graph_Activation:$x);
  let results = (outs Graph_Activation:$result);
  let assemblyFormat = "$x attr-dict `:` type($result)";
}

class Graph_BinaryOp<string mnemonic>
    : Graph_Op<mnemonic, [SameOperandsAndResultType]> {
  let arguments = (ins Graph_Activation:$lhs, Graph_Activation:$rhs);
  let results = (outs Graph_Activation:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($result)";
}

def Graph_SiluOp : Graph_UnaryOp<"silu"> {
  let summary = "x * sigmoid(x)";
}
def Graph_SigmoidOp : Graph_UnaryOp<"sigmoid"> {
  let summary = "1 / (1 + e^-x)";
}
def Graph_AddOp : Graph_BinaryOp<"add"> {
  let summary = "lhs + rhs";
}
def Graph_MulOp : Graph_BinaryOp<"mul"> {
  let summary = "lhs * rhs";
}
def Graph_SwigluOp : Graph_BinaryOp<"swiglu"> {
  let summary = "silu(gate) * up";
}

//===----------------------------------------------------------------------===//
// Shape
//===----------------------------------------------------------------------===//

def Graph_SliceOp : Graph_Op<"slice"> {
  let summary = "A column range of every group of columns";
  let description = [{
    Splits each row into groups of `group` columns and keeps columns
    [offset, offset + size) of each.
  }];
  let arguments = (ins Graph_Activation:$x, I64Attr:$group, I64Attr:$offset,
                       I64Attr:$size);
  let results = (outs Graph_Activation:$result);
  let assemblyFormat = [{
    $x `group` $group `offset` $offset `size` $size attr-dict
    `:` type($x) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Graph_ConcatOp : Graph_Op<"concat"> {
  let summary = "Columns of several activations side by side";
  let arguments = (ins Variadic<Graph_Activation>:$inputs);
  let results = (outs Graph_Activation:$result);
  let assemblyFormat = [{
    $inputs attr-dict `:` type($inputs) `->` type($result)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Normalisation and position
//===----------------------------------------------------------------------===//

def Graph_RmsNormOp : Graph_Op<"rms_norm", [AllTypesMatch<["x", "result"]>]> {
  let summary = "Root-mean-square normalisation of groups of columns";
  let description = [{
    For each group of D columns, D being the length of `weight`:
    x * rsqrt(mean(x^2) + eps) * w, where w is `weight`, or 1 + `weight` with
    `plus_one`.
  }];
  let arguments = (ins Graph_Activation:$x, Graph_Vector:$weight,
                       F64Attr:$eps, UnitAttr:$plus_one);
  let results = (outs Graph_Activation:$result);
  let assemblyFormat = [{
    $x `,` $weight `eps` $eps (`plus_one` $plus_one^)? attr-dict
    `:` type($x) `,` type($weight)
  }];
  let hasVerifier = 1;
}

def Graph_L2NormOp : Graph_Op<"l2_norm", [SameOperandsAndResultType]> {
  let summary = "Scaled L2 normalisation of groups of columns";
  let description = [{
    For each group of `group` columns: x * rsqrt(sum(x^2) + eps) * scale.
  }];
  let arguments = (ins Graph_Activation:$x, I64Attr:$group, F64Attr:$eps,
                       F64Attr:$scale);
  let results = (outs Graph_Activation:$result);
  let assemblyFormat = [{
    $x `group` $group `eps` $eps `scale` $scale attr-dict `:` type($result)
  }];
  let hasVerifier = 1;
}

def Graph_RopeOp : Graph_Op<"rope", [AllTypesMatch<["x", "result"]>]> {
  let summary = "Rotary position embedding, rotate-half pairs";
  let description = [{
    Each head of `head_dim` columns has its first `rotary_dim` columns rotated:
    columns i and i + rotary_dim/2 form a pair that turns by
    p * theta^(-2i/rotary_dim), where p = `position` + token index.
  }];
  let arguments = (ins Graph_Activation:$x, Index:$position, I64Attr:$head_dim,
                       I64Attr:$rotary_dim, F64Attr:$theta);
  let results = (outs Graph_Activation:$result);
  let assemblyFormat = [{
    $x `at` $position `head_dim` $head_dim `rotary_dim` $rotary_dim
    `theta` $theta attr-dict `:` type($x)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Linear algebra
//===----------------------------------------------------------------------===//

def Graph_EmbeddingOp : Graph_Op<"embedding"> {
  let summary = "One row of a table per token";
  let arguments = (ins Graph_Tokens:$tokens, Graph_WeightType:$table);
  let results = (outs Graph_Activation:$result);
  let assemblyFormat = [{
    $tokens `,` $table attr-dict `:` type($tokens) `,` type($table) `->`
    type($result)
  }];
  let hasVerifier = 1;
}

def Graph_LinearOp : Graph_Op<"linear"> {
  let summary = "y = W x for each token";
  let arguments = (ins Graph_Activation:$x, Graph_WeightType:$weight);
  let results = (outs Graph_Activation:$result);
  let assemblyFormat = [{
    $x `,` $weight attr-dict `:` type($x) `,` type($weight) `->` type($result)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Mixers
//===----------------------------------------------------------------------===//

def Graph_ShortConvOp : Graph_Op<"short_conv",
    [AllTypesMatch<["x", "result"]>, AllTypesMatch<["state", "next"]>]> {
  let summary = "Causal depthwise convolution over tokens, then SiLU";
  let description = [{
    y[t, c] = silu(sum_j weight[c, j] * u[t + j]), where u is the state's rows
    followed by x and the last tap meets the current token. `next` holds the
    last rows of u.
  }];
  let arguments = (ins Graph_Activation:$x, Graph_Matrix:$weight,
                       Graph_ConvType:$state);
  let results = (outs Graph_Activation:$result, Graph_ConvType:$next);
  let assemblyFormat = [{
    $x `,` $weight `,` $state attr-dict
    `:` type($x) `,` type($weight) `,` type($state)
  }];
  let hasVerifier = 1;
}

def Graph_DeltaGatesOp : Graph_Op<"delta_gates",
    [AllTypesMatch<["a", "b", "decay", "beta"]>,
     AllTypesMatch<["a_log", "dt_bias"]>]> {
  let summary = "Decay and write strength of the gated delta rule";
  let description = [{
    decay = -exp(a_log) * softplus(a + dt_bias), the logarithm of the factor
    that shrinks the state; beta = sigmoid(b).
  }];
  let arguments = (ins Graph_Activation:$a, Graph_Activation:$b,
                       Graph_Vector:$a_log, Graph_Vector:$dt_bias);
  let results = (outs Graph_Activation:$decay, Graph_Activation:$beta);
  let assemblyFormat = [{
    $a `,` $b `,` $a_log `,` $dt_bias attr-dict `:` type($a) `,` type($a_log)
  }];
  let hasVerifier = 1;
}

def Graph_DeltaRuleOp : Graph_Op<"delta_rule",
    [AllTypesMatch<["q", "k"]>, AllTypesMatch<["decay", "beta"]>,
     AllTypesMatch<["v", "result"]>, AllTypesMatch<["state", "next"]>]> {
  let summary = "The gated delta rule over a matrix state";
  let description = [{
    Per value head j with state S (key_dim x value_dim) and key head
    i = j / (value_heads / key_heads), token by token:
      S <- exp(decay) S;  d = beta (v - S^T k);  S <- S + k d^T;  o = S^T q.
  }];
  let arguments = (ins Graph_Activation:$q, Graph_Activation:$k,
                       Graph_Activation:$v, Graph_Activation:$decay,
                       Graph_Activation:$beta, Graph_RecurrentType:$state,
                       I64Attr:$key_heads);
  let results = (outs Graph_Activation:$result, Graph_RecurrentType:$next);
  let assemblyFormat = [{
    $q `,` $k `,` $v `,` $decay `,` $beta `,` $state `key_heads` $key_heads
    attr-dict `:` type($q) `,` type($v) `,` type($decay) `,` type($state)
  }];
  let hasVerifier = 1;
}

def Graph_AttentionOp : Graph_Op<"attention",
    [AllTypesMatch<["q", "result"]>, AllTypesMatch<["k", "v"]>,
     AllTypesMatch<["state", "next"]>]> {
  let summary = "Causal grouped-query attention over a KV cache";
  let description = [{
    Appends k and v at `position`, then for each token and query head h, with
    kv head g = h / (heads / kv_heads):
    softmax(scale * q_h . K_g[0..p]) V_g[0..p], p = `position` + token index.
  }];
  let arguments = (ins Graph_Activation:$q, Graph_Activation:$k,
                       Graph_Activation:$v, Graph_KvType:$state,
                       Index:$position, F64Attr:$scale);
  let results = (outs Graph_Activation:$result, Graph_KvType:$next);
  let assemblyFormat = [{
    $q `,` $k `,` $v `,` $state `at` $position `scale` $scale attr-dict
    `:` type($q) `,` type($k) `,` type($state)
  }];
  let hasVerifier = 1;
}

#endif // LATHE_IR_GRAPH_GRAPHOPS_TD
