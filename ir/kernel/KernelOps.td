//===- KernelOps.td - the kernel dialect ----------------------------------===//

#ifndef LATHE_IR_KERNEL_KERNELOPS_TD
#define LATHE_IR_KERNEL_KERNELOPS_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/FunctionInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Kernel_Dialect : Dialect {
  let name = "kernel";
  let cppNamespace = "::lathe::kernel";
  let summary = "Fused kernels: one kernel.func is one launch";
  let description = [{
    The level after fusion. The body of a kernel.func is graph operations: an
    anchor (the linears, the delta rule, the attention...), what was fused in
    front of it (prologue) and behind it (epilogue). Its meaning is that of its
    body, so the reference interpreter runs it too.
  }];
  let useDefaultAttributePrinterParser = 1;
}

def Kernel_Anchor : I32EnumAttr<"Anchor", "what a kernel is built around", [
    I32EnumAttrCase<"Embedding", 0, "embedding">,
    I32EnumAttrCase<"Linear", 1, "linear">,
    I32EnumAttrCase<"Delta", 2, "delta">,
    I32EnumAttrCase<"Attention", 3, "attention">,
    I32EnumAttrCase<"Norm", 4, "norm">,
    I32EnumAttrCase<"Elementwise", 5, "elementwise">]> {
  let cppNamespace = "::lathe::kernel";
  let genSpecializedAttr = 0;
}
def Kernel_AnchorAttr : EnumAttr<Kernel_Dialect, Kernel_Anchor, "anchor"> {
  let assemblyFormat = "`<` $value `>`";
}

def Kernel_Form : I32EnumAttr<"Form",
    "how a linear holds its activations", [
    I32EnumAttrCase<"F32", 0, "f32">,
    I32EnumAttrCase<"Int15", 1, "int15">,
    I32EnumAttrCase<"Int8", 2, "int8">,
    I32EnumAttrCase<"Half", 3, "half">,
    I32EnumAttrCase<"Split", 4, "split">]> {
  let cppNamespace = "::lathe::kernel";
  let genSpecializedAttr = 0;
}

def Kernel_ScheduleAttr : AttrDef<Kernel_Dialect, "Schedule"> {
  let mnemonic = "schedule";
  let summary = "The choices that turn a kernel.func into code";
  let description = [{
    `tokens`: rows per launch, exact for decode, the maximum for prefill.
    `prefill`: tokens are worked on together, shared by the team, rather than
    each thread preparing all of them. `form`: how activations are held: on the
    CPU int15 or int8 where they meet integer weights, on a GPU as f16 (`half`)
    or as two f16 parts (`split`), which is as exact as f32.
  }];
  let parameters = (ins "int64_t":$tokens, "bool":$prefill,
                        EnumParameter<Kernel_Form>:$form);
  let assemblyFormat = [{
    `<` `tokens` `=` $tokens `,` `prefill` `=` $prefill `,` `form` `=` $form `>`
  }];
}

def Kernel_CudaAttr : AttrDef<Kernel_Dialect, "Cuda"> {
  let mnemonic = "cuda";
  let summary = "How a kernel.func is spread over a GPU";
  let description = [{
    `blocks`: grid.x of the entry that does the work; `resident`: blocks that an
    SM should hold at a time, which bounds their registers. Of a linear, besides:
    `split`: blocks that share the columns of a row tile; `warps` per block
    (both fix the order of sums, so they do not depend on the token count);
    `stages`: depth of the ring of weights; `twins`: 2 where neighbouring blocks
    share the activations through each other's shared memory. A prompt's linear
    has `warpgroup`: tokens per tile if it runs on tensor-core instructions of a
    warpgroup, 0 if on those of a warp. A tuner may change them all.
  }];
  let parameters = (ins "int64_t":$blocks, DefaultValuedParameter<"int64_t", "1">:$split,
                        DefaultValuedParameter<"int64_t", "8">:$warps,
                        DefaultValuedParameter<"int64_t", "1">:$stages,
                        DefaultValuedParameter<"int64_t", "1">:$resident,
                        DefaultValuedParameter<"int64_t", "0">:$warpgroup,
                        DefaultValuedParameter<"int64_t", "1">:$twins);
  let builders = [AttrBuilder<(ins "int64_t":$blocks, "int64_t":$split,
                                   "int64_t":$warps, "int64_t":$stages,
                                   "int64_t":$resident), [{
    return $_get($_ctxt, blocks, split, warps, stages, resident, 0, 1);
  }]>];
  let assemblyFormat = "`<` struct(params) `>`";
}

class Kernel_Op<string mnemonic, list<Trait> traits = []>
    : Op<Kernel_Dialect, mnemonic, traits>;

def Kernel_FuncOp : Kernel_Op<"func",
    [FunctionOpInterface, IsolatedFromAbove, Symbol]> {
  let summary = "A fused kernel";
  let arguments = (ins SymbolNameAttr:$sym_name,
                       TypeAttrOf<FunctionType>:$function_type,
                       Kernel_AnchorAttr:$anchor,
                       OptionalAttr<Kernel_ScheduleAttr>:$schedule,
                       OptionalAttr<Kernel_CudaAttr>:$cuda,
                       OptionalAttr<StrAttr>:$sym_visibility,
                       OptionalAttr<DictArrayAttr>:$arg_attrs,
                       OptionalAttr<DictArrayAttr>:$res_attrs);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let skipDefaultBuilders = 1;
  let builders = [OpBuilder<(ins "::llvm::StringRef":$name,
                                 "::mlir::FunctionType":$type,
                                 "Anchor":$anchor)>];
  let extraClassDeclaration = [{
    ::llvm::ArrayRef<::mlir::Type> getArgumentTypes() {
      return getFunctionType().getInputs();
    }
    ::llvm::ArrayRef<::mlir::Type> getResultTypes() {
      return getFunctionType().getResults();
    }
    ::mlir::Region *getCallableRegion() { return &getBody(); }
  }];
}

def Kernel_ReturnOp : Kernel_Op<"return",
    [Pure, Terminator, ReturnLike, HasParent<"FuncOp">]> {
  let summary = "The results of a kernel";
  let arguments = (ins Variadic<AnyType>:$results);
  let assemblyFormat = "attr-dict ($results^ `:` type($results))?";
  let hasVerifier = 1;
}

def Kernel_LaunchOp : Kernel_Op<"launch",
    [DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "One launch of a kernel";
  let arguments = (ins FlatSymbolRefAttr:$kernel, Variadic<AnyType>:$operands);
  let results = (outs Variadic<AnyType>:$results);
  let assemblyFormat = [{
    $kernel `(` $operands `)` attr-dict `:` functional-type($operands, $results)
  }];
}

#endif // LATHE_IR_KERNEL_KERNELOPS_TD
