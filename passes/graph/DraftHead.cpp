#include "passes/Passes.h"

namespace lathe {
#define GEN_PASS_DEF_DRAFTHEAD
#include "passes/Passes.h.inc"
} // namespace lathe

using namespace mlir;

namespace lathe {

/// The head's weight with fewer rows in another format.
static FailureOr<graph::WeightType> draftType(graph::WeightType head,
                                              int64_t rows, StringRef format) {
  WeightDesc desc = head.getDesc();
  desc.rows = rows;
  if (format == "full")
    return graph::WeightType::get(head.getContext(), desc);
  desc.format = format == "nvfp4" ? WeightFormat::NvFp4 : WeightFormat::Int4;
  desc.asymmetric = false;
  desc.group = 16;
  if (desc.format == WeightFormat::Int4)
    desc.group = desc.cols % 128 == 0 ? 128 : desc.cols % 64 == 0 ? 64 : 32;
  if (desc.cols % desc.group != 0)
    return failure();
  if (format == "int8")
    desc.cols *= 2;
  return graph::WeightType::get(head.getContext(), desc);
}

/// Once for the high digits and once for the low ones.
static void readTwice(graph::LinearOp linear) {
  OpBuilder builder(linear);
  Value input = linear.getX();
  auto type = graph::activationType(builder.getContext(),
                                    2 * graph::widthOf(input.getType()));
  linear.getXMutable().assign(graph::ConcatOp::create(
      builder, linear.getLoc(), type, ValueRange{input, input}));
}

namespace {
struct DraftHead : impl::DraftHeadBase<DraftHead> {
  using DraftHeadBase::DraftHeadBase;

  void runOnOperation() override {
    if (!llvm::is_contained({"full", "int8", "int4", "nvfp4"},
                            format.getValue())) {
      getOperation().emitError()
          << "format: expected full, int8, int4 or nvfp4, found "
          << format.getValue();
      return signalPassFailure();
    }
    auto head = getOperation().lookupSymbol<func::FuncOp>("head");
    if (!head) {
      getOperation().emitError() << "expected a function @head";
      return signalPassFailure();
    }
    if (failed(addDraftOf(head)))
      signalPassFailure();
  }

  LogicalResult addDraftOf(func::FuncOp head) {
    OpBuilder builder(head);
    builder.setInsertionPointAfter(head);
    auto draft = cast<func::FuncOp>(builder.clone(*head));
    draft.setSymName("draft_head");
    draft->setAttr("lathe.max_tokens", builder.getI64IntegerAttr(1));
    auto linears = draft.getBody().getOps<graph::LinearOp>();
    if (!llvm::hasSingleElement(linears))
      return head.emitOpError() << "expected one graph.linear in the head";
    graph::LinearOp linear = *linears.begin();
    auto weight = linear.getWeight().getDefiningOp<graph::WeightOp>();
    auto type = cast<graph::WeightType>(weight.getType());
    if (rows <= 0 || rows > type.getRows())
      return head.emitOpError() << "rows: expected 1 to " << type.getRows()
                                << ", found " << rows.getValue();
    auto fresh = draftType(type, rows, format);
    if (failed(fresh))
      return weight.emitOpError()
             << "has " << type.getCols() << " columns, which "
             << format.getValue() << " cannot group";
    weight.setName((weight.getName() + ".draft").str());
    weight.getResult().setType(*fresh);
    if (format == "int8")
      readTwice(linear);
    linear.getResult().setType(graph::activationType(&getContext(), rows));
    draft.setType(builder.getFunctionType(
        draft.getArgumentTypes(),
        draft.getBody().front().getTerminator()->getOperandTypes()));
    return success();
  }
};
} // namespace

} // namespace lathe
