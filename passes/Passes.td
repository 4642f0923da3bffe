//===- Passes.td - every pass of the pipeline -----------------------------===//
//
// Pipeline.cpp holds the one ordered list. A pass is an entry here, one source
// and one FileCheck test of the same name under tests/passes.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_PASSES_PASSES_TD
#define LATHE_PASSES_PASSES_TD

include "mlir/Pass/PassBase.td"

def ReplayStates : Pass<"replay-states", "::mlir::ModuleOp"> {
  let summary = "Let recurrent states take back the tokens of their last step";
  let description = [{
    Gives every conv and recurrent state the `replay` form (ir/SPEC.md): the
    state is kept as it was before the last step, beside what the tokens of that
    step were made of, and the next step begins by folding in those that count.
    A verified draft is accepted or rejected by saying how many count. The
    meaning of the functions stays the same, bit for bit.

    Runs first, for speculation only.
  }];
}

def DraftHead : Pass<"draft-head", "::mlir::ModuleOp"> {
  let summary = "Add a cheap copy of the head for drafts";
  let description = [{
    Adds `@draft_head`: @head with `rows` rows of its weight in `format`. The
    loader makes the weight "<name>.draft" from the head's: rows of the tokens
    that drafts may propose, rounded to the format. What it costs in exactness
    changes how often drafts are accepted, never what is generated.

    int8 has no kernels of its own: 16 h + l, two digits of four bits, are two
    columns of an int4 weight, the high digits of all columns before the low
    ones, and the linear reads its input twice.

    Runs on graph functions, before fuse-kernels.
  }];
  let options = [
    Option<"rows", "rows", "int64_t", "0", "Tokens that drafts may propose">,
    Option<"format", "format", "std::string", "\"full\"",
           "int8, int4, nvfp4, or full: as the head">];
}

def FuseKernels : Pass<"fuse-kernels", "::mlir::ModuleOp"> {
  let summary = "Outline the graph of every function into fused kernels";
  let description = [{
    Groups operations around anchors: linears that read the same activation,
    the delta rule with its convolution, norms and gates, attention with its
    norms and rotary embedding. Elementwise consumers of a linear become its
    epilogue, norms and elementwise producers its prologue. Each group becomes
    a kernel.func and a kernel.launch.

    Runs on graph functions. What cannot be fused becomes a kernel of its own, with a
    remark, or an error with `strict`.
  }];
  let options = [
    Option<"strict", "strict", "bool", "false",
           "Fail when an operation misses its fused kernel">];
  let dependentDialects = ["::lathe::kernel::KernelDialect"];
}

def AssignLayouts : Pass<"assign-layouts", "::mlir::ModuleOp"> {
  let summary = "Decide how every parameter lies in memory";
  let description = [{
    Sets `lathe.layout` on each graph.weight and on the kernel arguments that
    receive it: tiles for what is multiplied or quantised, rows for dense
    embedding tables, transposed for convolution taps, vector otherwise. A
    parameter has one layout in the whole module, so a table that is tied to
    the head is kept in tiles.

    Runs after fuse-kernels.
  }];
  let dependentDialects = ["::lathe::plan::PlanDialect"];
}

def SpecializeTokens : Pass<"specialize-tokens", "::mlir::ModuleOp"> {
  let summary = "Clone every function for the token counts it will run with";
  let description = [{
    For each count in `decode` a copy `@f.tN`, and for `prefill` a copy `@f.pN`,
    with kernels of their own that carry a schedule. The originals disappear.
    A function with `lathe.max_tokens` gets no copy for more (a head whose
    logits are wide, for one): a smaller prefill, and none that a decode copy
    makes useless.
    `prefill-form` is how a prefill holds activations. For a CPU, with integer
    weights: int15 as exactly as decode, int8 in half the time, mixed int8
    behind norms and int15 elsewhere. For a GPU: half, split as exactly as f32,
    mixed half with 4-bit weights and split with dense ones. `decode-form`:
    int15 for a CPU; half, split or mixed for a GPU.

    Runs after assign-layouts.
  }];
  let options = [
    ListOption<"decode", "decode", "int64_t", "Token counts of decode steps">,
    Option<"prefill", "prefill", "int64_t", "0",
           "Largest number of prompt tokens at once, 0 for none">,
    Option<"prefillForm", "prefill-form", "std::string", "\"mixed\"",
           "mixed, int8, int15, half or split">,
    Option<"decodeForm", "decode-form", "std::string", "\"int15\"",
           "int15, mixed, half or split">];
}

def ScheduleCuda : Pass<"schedule-cuda", "::mlir::ModuleOp"> {
  let summary = "Spread every kernel over a GPU";
  let description = [{
    Sets `cuda` on each kernel.func: the grid, and for a linear how its columns
    are split and how deep its ring of weights is, within the shared memory of
    the architecture. What fixes the order of sums (split, warps) depends on
    shape and architecture alone, never on the token count.

    Runs after specialize-tokens, for GPU targets only.
  }];
  let options = [
    Option<"arch", "arch", "std::string", "\"sm_90\"",
           "sm_80 and up, as NVRTC spells it">,
    Option<"sms", "sms", "int64_t", "0",
           "Multiprocessors to fill; 0 for those of a common card">,
    Option<"shared", "shared", "int64_t", "0",
           "Most bytes of shared memory per block; 0 for the architecture's">];
}

def MergeKernels : Pass<"merge-kernels", "::mlir::ModuleOp"> {
  let summary = "Keep one copy of kernels that differ only in name";
  let description = [{
    Layers of one shape share their kernels, because parameters are operands.
    Kernels get names from their anchor and a running number.

    Runs after specialize-tokens and schedule-cuda.
  }];
}

def PlanMemory : Pass<"plan-memory", "::mlir::ModuleOp"> {
  let summary = "Turn functions of launches into plan entries";
  let description = [{
    Gives every activation a place in the entry's arena by first fit over
    lifetimes (an operand stays allocated during the launch that reads it last,
    so a launch never writes what it reads), numbers parameters and states
    across entries, and replaces each func.func by a plan.entry.

    Runs last.
  }];
  let dependentDialects = ["::lathe::plan::PlanDialect"];
}

#endif // LATHE_PASSES_PASSES_TD
