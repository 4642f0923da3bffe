//===- GraphDialect.td - the graph dialect and its types ------------------===//

#ifndef LATHE_IR_GRAPH_GRAPHDIALECT_TD
#define LATHE_IR_GRAPH_GRAPHDIALECT_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"

def Graph_Dialect : Dialect {
  let name = "graph";
  let cppNamespace = "::lathe::graph";
  let summary = "A language model as its literature writes it";
  let description = [{
    The model level: value semantics, named operations, quantised weight types,
    explicit state and a symbolic token count. Activations are
    `tensor<?xWxf32>`, one row per token. Meaning and numbered constraints:
    ir/SPEC.md.
  }];
  let useDefaultTypePrinterParser = 1;
}

class Graph_Type<string name, string mnemonic_> : TypeDef<Graph_Dialect, name> {
  let mnemonic = mnemonic_;
}

def Graph_WeightType : Graph_Type<"Weight", "weight"> {
  let summary = "A weight matrix of a given storage format";
  let description = [{
    `!graph.weight<NxK, format[, group]>`: N output features by K input
    features. `format` is f32, f16, bf16, int4, int4_asym or nvfp4; `group` is
    the number of columns that share one scale (int4 only; nvfp4 has 16).
  }];
  let parameters = (ins "int64_t":$rows, "int64_t":$cols,
                        "::lathe::WeightFormat":$format, "int32_t":$group,
                        "bool":$asymmetric);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    ::lathe::WeightDesc getDesc() const {
      return {getFormat(), getRows(), getCols(), getGroup(), getAsymmetric()};
    }
    static WeightType get(::mlir::MLIRContext *context,
                          const ::lathe::WeightDesc &desc) {
      return get(context, desc.rows, desc.cols, desc.format, desc.group,
                 desc.asymmetric);
    }
  }];
}

def Graph_KvType : Graph_Type<"Kv", "kv"> {
  let summary = "Keys and values of the positions seen so far";
  let description = [{
    `!graph.kv<heads x head_dim[, f16]>`: stored as f32, or as f16.
  }];
  let parameters = (ins "int64_t":$heads, "int64_t":$headDim, "bool":$half);
  let hasCustomAssemblyFormat = 1;
  let extraClassDeclaration = [{
    static KvType get(::mlir::MLIRContext *context, int64_t heads,
                      int64_t headDim) {
      return get(context, heads, headDim, /*half=*/false);
    }
    /// Bytes of a stored element.
    int64_t elementBytes() const { return getHalf() ? 2 : 4; }
  }];
}

def Graph_ConvType : Graph_Type<"Conv", "conv"> {
  let summary = "The last inputs of a causal convolution, oldest first";
  let description = [{
    `!graph.conv<steps x channels[, replay]>`: with `replay` it also knows the
    inputs of the last step, so that some of them can be taken back.
  }];
  let parameters = (ins "int64_t":$steps, "int64_t":$channels, "bool":$replay);
  let hasCustomAssemblyFormat = 1;
  let extraClassDeclaration = [{
    static ConvType get(::mlir::MLIRContext *context, int64_t steps,
                        int64_t channels) {
      return get(context, steps, channels, /*replay=*/false);
    }
  }];
}

def Graph_RecurrentType : Graph_Type<"Recurrent", "recurrent"> {
  let summary = "The matrix state of a linear-attention layer";
  let description = [{
    `!graph.recurrent<value_heads x key_dim x value_dim[, replay]>`: with
    `replay` the tokens of the last step can still be taken back.
  }];
  let parameters = (ins "int64_t":$heads, "int64_t":$keyDim,
                        "int64_t":$valueDim, "bool":$replay);
  let hasCustomAssemblyFormat = 1;
  let extraClassDeclaration = [{
    static RecurrentType get(::mlir::MLIRContext *context, int64_t heads,
                             int64_t keyDim, int64_t valueDim) {
      return get(context, heads, keyDim, valueDim, /*replay=*/false);
    }
  }];
}

#endif // LATHE_IR_GRAPH_GRAPHDIALECT_TD
