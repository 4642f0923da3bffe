//===- PlanOps.td - the plan dialect --------------------------------------===//

#ifndef LATHE_IR_PLAN_PLANOPS_TD
#define LATHE_IR_PLAN_PLANOPS_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"

def Plan_Dialect : Dialect {
  let name = "plan";
  let cppNamespace = "::lathe::plan";
  let summary = "What the runtime executes, one to one";
  let description = [{
    Weights with the layout their kernels read, states, and per entry point the
    launches in order with every operand at its place. runtime/artifact/Plan.h
    is the same thing without MLIR.
  }];
  let useDefaultAttributePrinterParser = 1;
}

def Plan_Space : I32EnumAttr<"Space", "where an operand lives", [
    I32EnumAttrCase<"Arena", 0, "arena">,
    I32EnumAttrCase<"Weight", 1, "weight">,
    I32EnumAttrCase<"State", 2, "state">,
    I32EnumAttrCase<"Input", 3, "input">,
    I32EnumAttrCase<"Output", 4, "output">]> {
  let cppNamespace = "::lathe::plan";
  let genSpecializedAttr = 0;
}

def Plan_RefAttr : AttrDef<Plan_Dialect, "Ref"> {
  let mnemonic = "ref";
  let summary = "An operand of a launch";
  let description = [{
    A byte offset into the arena, or the index of a weight, a state, an input
    or an output of the entry.
  }];
  let parameters = (ins EnumParameter<Plan_Space>:$space, "int64_t":$value);
  let assemblyFormat = "`<` $space $value `>`";
}

def Plan_Layout : I32EnumAttr<"Layout", "how a weight is laid out in memory", [
    I32EnumAttrCase<"Rows", 0, "rows">,
    I32EnumAttrCase<"Tiles", 1, "tiles">,
    I32EnumAttrCase<"Vector", 2, "vector">,
    I32EnumAttrCase<"Transposed", 3, "transposed">]> {
  let cppNamespace = "::lathe::plan";
  let genSpecializedAttr = 0;
}
def Plan_LayoutAttr : EnumAttr<Plan_Dialect, Plan_Layout, "layout"> {
  let assemblyFormat = "`<` $value `>`";
}

class Plan_Op<string mnemonic, list<Trait> traits = []>
    : Op<Plan_Dialect, mnemonic, traits>;

def Plan_WeightOp : Plan_Op<"weight"> {
  let summary = "A parameter, as its kernels read it";
  let arguments = (ins StrAttr:$name, TypeAttr:$type, Plan_LayoutAttr:$layout);
  let assemblyFormat = "$name $layout attr-dict `:` $type";
}

def Plan_StateOp : Plan_Op<"state"> {
  let summary = "A state that lives from step to step";
  let arguments = (ins StrAttr:$name, TypeAttr:$type);
  let assemblyFormat = "$name attr-dict `:` $type";
}

def Plan_EntryOp : Plan_Op<"entry", [NoTerminator]> {
  let summary = "An entry point: launches in order";
  let arguments = (ins StrAttr:$name, I64Attr:$tokens, BoolAttr:$prefill,
                       I64Attr:$arena, TypeArrayAttr:$inputs,
                       TypeArrayAttr:$outputs);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $name `tokens` $tokens `prefill` $prefill `arena` $arena $inputs `->`
    $outputs attr-dict-with-keyword $body
  }];
}

def Plan_LaunchOp : Plan_Op<"launch", [HasParent<"EntryOp">]> {
  let summary = "A kernel with its operands";
  let arguments = (ins FlatSymbolRefAttr:$kernel, ArrayAttr:$operands);
  let assemblyFormat = "$kernel $operands attr-dict";
}

#endif // LATHE_IR_PLAN_PLANOPS_TD
