#include "ir/graph/Graph.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

#include "ir/graph/GraphDialect.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "ir/graph/GraphTypes.cpp.inc"

using namespace mlir;

namespace lathe::graph {

void GraphDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "ir/graph/GraphTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "ir/graph/GraphOps.cpp.inc"
      >();
}

static bool isF32Tensor(Type type, int64_t rank) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.getRank() == rank && tensor.getElementType().isF32();
}

bool isActivation(Type type) {
  if (!isF32Tensor(type, 2))
    return false;
  auto tensor = cast<RankedTensorType>(type);
  return tensor.isDynamicDim(0) && !tensor.isDynamicDim(1);
}

bool isTokens(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.getRank() == 1 && tensor.isDynamicDim(0) &&
         tensor.getElementType().isInteger(32);
}

bool isStaticF32(Type type, int64_t rank) {
  return isF32Tensor(type, rank) &&
         cast<RankedTensorType>(type).hasStaticShape();
}

bool isState(Type type) { return isa<KvType, ConvType, RecurrentType>(type); }

RankedTensorType activationType(MLIRContext *context, int64_t width) {
  return RankedTensorType::get({ShapedType::kDynamic, width},
                               Float32Type::get(context));
}

//===----------------------------------------------------------------------===//
// Types
//===----------------------------------------------------------------------===//

/// Parses `<AxBxC`.
static ParseResult parseDims(AsmParser &parser, size_t rank,
                             SmallVectorImpl<int64_t> &dims) {
  auto location = parser.getCurrentLocation();
  if (parser.parseLess() ||
      parser.parseDimensionList(dims, /*allowDynamic=*/false,
                                /*withTrailingX=*/false))
    return failure();
  if (dims.size() != rank)
    return parser.emitError(location, "expected ")
           << rank << " dimensions, found " << dims.size();
  return success();
}

static void printDims(AsmPrinter &printer, ArrayRef<int64_t> dims) {
  printer << "<";
  llvm::interleave(dims, printer.getStream(), "x");
}

Type WeightType::parse(AsmParser &parser) {
  SmallVector<int64_t> dims;
  StringRef name;
  auto location = parser.getCurrentLocation();
  if (parseDims(parser, 2, dims) || parser.parseComma() ||
      parser.parseKeyword(&name))
    return {};
  std::optional<WeightFormat> format;
  for (WeightFormat f :
       {WeightFormat::F32, WeightFormat::F16, WeightFormat::BF16,
        WeightFormat::Int4, WeightFormat::NvFp4})
    if (name == llvm::StringRef(nameOf(f)) ||
        (f == WeightFormat::Int4 && name == "int4_asym"))
      format = f;
  if (!format) {
    parser.emitError(location, "expected f32, f16, bf16, int4, int4_asym or "
                               "nvfp4, found ")
        << name;
    return {};
  }
  int32_t group = *format == WeightFormat::NvFp4 ? 16 : 0;
  if (*format == WeightFormat::Int4 &&
      (parser.parseComma() || parser.parseInteger(group)))
    return {};
  if (parser.parseGreater())
    return {};
  return parser.getChecked<WeightType>(parser.getContext(), dims[0], dims[1],
                                       *format, group, name == "int4_asym");
}

void WeightType::print(AsmPrinter &printer) const {
  printDims(printer, {getRows(), getCols()});
  printer << ", " << llvm::StringRef(nameOf(getFormat()));
  if (getAsymmetric())
    printer << "_asym";
  if (getFormat() == WeightFormat::Int4)
    printer << ", " << getGroup();
  printer << ">";
}

LogicalResult WeightType::verify(function_ref<InFlightDiagnostic()> emitError,
                                 int64_t rows, int64_t cols,
                                 WeightFormat format, int32_t group,
                                 bool asymmetric) {
  // weight_type_c1
  if (rows <= 0 || cols <= 0)
    return emitError() << "weight_type_c1: expected positive dimensions, found "
                       << rows << "x" << cols;
  bool grouped = format == WeightFormat::Int4 || format == WeightFormat::NvFp4;
  // weight_type_c2
  if (grouped && (group <= 0 || group % 16 != 0 || cols % group != 0))
    return emitError() << "weight_type_c2: expected a group size that is a "
                          "multiple of 16 and divides the "
                       << cols << " columns, found " << group;
  return success();
}

/// Parses `[, keyword]>` and says whether the keyword is there.
static ParseResult parseFlag(AsmParser &parser, StringRef keyword, bool &flag) {
  flag = succeeded(parser.parseOptionalComma());
  return failure((flag && parser.parseKeyword(keyword)) ||
                 parser.parseGreater());
}

static void printFlag(AsmPrinter &printer, StringRef keyword, bool flag) {
  if (flag)
    printer << ", " << keyword;
  printer << ">";
}

Type KvType::parse(AsmParser &parser) {
  SmallVector<int64_t> dims;
  bool half = false;
  if (parseDims(parser, 2, dims) || parseFlag(parser, "f16", half))
    return {};
  return get(parser.getContext(), dims[0], dims[1], half);
}

void KvType::print(AsmPrinter &printer) const {
  printDims(printer, {getHeads(), getHeadDim()});
  printFlag(printer, "f16", getHalf());
}

Type ConvType::parse(AsmParser &parser) {
  SmallVector<int64_t> dims;
  bool replay = false;
  if (parseDims(parser, 2, dims) || parseFlag(parser, "replay", replay))
    return {};
  return get(parser.getContext(), dims[0], dims[1], replay);
}

void ConvType::print(AsmPrinter &printer) const {
  printDims(printer, {getSteps(), getChannels()});
  printFlag(printer, "replay", getReplay());
}

Type RecurrentType::parse(AsmParser &parser) {
  SmallVector<int64_t> dims;
  bool replay = false;
  if (parseDims(parser, 3, dims) || parseFlag(parser, "replay", replay))
    return {};
  return get(parser.getContext(), dims[0], dims[1], dims[2], replay);
}

void RecurrentType::print(AsmPrinter &printer) const {
  printDims(printer, {getHeads(), getKeyDim(), getValueDim()});
  printFlag(printer, "replay", getReplay());
}

} // namespace lathe::graph
