#include "tests/compiler/cuda/CudaWeightPacker.h"

#include "runtime/base/CudaPacking.h"

#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/FormatVariadic.h"

namespace lathe::difftest {

namespace {
/// The first operand of the entry below.
struct Piece {
  LathePack pack;
  long long packedAt; ///< bytes from the start of the weight
};
} // namespace

static const char kPack[] = R"(
#include "compiler/device/cuda/pack.cuh"
namespace lathe {
struct Piece {
  LathePack pack;
  long long packedAt;
};
LATHE_KERNEL(256, 1)
test_pack(LatheLaunch ctx, void *piece, void *data, void *scales, void *zeros,
          void *blockScales, void *packed) {
  LathePack pack = ((const Piece *)piece)->pack;
  pack.data = (const u8 *)data;
  pack.scales = (const u16 *)scales;
  pack.zeros = (const u8 *)zeros;
  pack.blockScales = (const u8 *)blockScales;
  pack.packed = (char *)packed + ((const Piece *)piece)->packedAt;
  packWeight(pack);
}
} // namespace lathe
)";

/// Two pieces of text around the packing and the number of columns.
static const char kUnpack[] = R"(
#include "compiler/device/cuda/weights.cuh"
namespace lathe {{
LATHE_KERNEL(64, 1)
{0}(LatheLaunch ctx, void *packed, void *out) {{
  for (int column = threadX(); column < {2}; column += threadCount())
    ((float *)out)[(i64)blockX() * {2} + column] =
        weightAt<{1}, {2}>((const char *)packed, blockX(), column);
}
} // namespace lathe
)";

static void demand(const Status &status) {
  if (!status.ok())
    llvm::report_fatal_error(messageOf(status).c_str());
}

CudaWeightPacker::CudaWeightPacker(CudaBackend &backend, std::string arch)
    : backend(backend), arch(std::move(arch)) {
  const CudaText text{"test_pack", kPack, {"test_pack"}, 6};
  demand(backend.load({&text, 1}, this->arch));
}

/// A LathePack without pointers and rows.
static LathePack packOf(const WeightDesc &desc) {
  const CudaPacking packing = cudaPacking(desc);
  LathePack pack{};
  pack.format = int(packing.format);
  pack.grain = packing.grain;
  pack.asymmetric = packing.asymmetric;
  pack.source = desc.format == WeightFormat::F32   ? LATHE_PACK_F32
                : desc.format == WeightFormat::F16 ? LATHE_PACK_F16
                                                   : LATHE_PACK_BF16;
  pack.columns = int(desc.cols);
  pack.group = std::max(desc.group, 1);
  return pack;
}

/// The share of `array` that belongs to some of its `all` rows.
template <class T>
static GuardedMemory rowsOf(const std::vector<T> &array, int64_t all,
                            int64_t first, int64_t count) {
  const int64_t each = int64_t(array.size()) / all;
  GuardedMemory memory;
  memory.assign(std::vector<T>(array.begin() + each * first,
                               array.begin() + each * (first + count)));
  return memory;
}

void CudaWeightPacker::packPiece(const HostWeight &weight, int64_t firstRow,
                                 int64_t rows, GuardedMemory &packed) {
  const WeightDesc &desc = weight.desc;
  const CudaPacking packing = cudaPacking(desc);
  Piece piece{packOf(desc), kCudaWeightHeader +
                                firstRow / 16 * packing.units(int(desc.cols)) *
                                    packing.unitBytes()};
  piece.pack.rows = int(rows);
  GuardedMemory pieceMemory;
  pieceMemory.assign(std::vector<Piece>{piece});
  auto part = [&](const auto &array) {
    return rowsOf(array, desc.rows, firstRow, rows);
  };
  GuardedMemory data = part(weight.data), scales = part(weight.scales),
                zeros = part(weight.zeros),
                blockScales = part(weight.blockScales);
  launch("test_pack",
         {&pieceMemory, &data, &scales, &zeros, &blockScales, &packed});
}

GuardedMemory CudaWeightPacker::pack(const HostWeight &weight, int fill) {
  GuardedMemory packed;
  packed.reserve(size_t(cudaPackedBytes(weight.desc)), fill);
  std::memset(packed.data(), 0, kCudaWeightHeader);
  packed.floats()[0] =
      weight.desc.format == WeightFormat::NvFp4 ? weight.globalScale : 1.0f;
  const int64_t rows = weight.desc.rows, first = std::min<int64_t>(rows, 16);
  packPiece(weight, 0, first, packed);
  if (rows > first)
    packPiece(weight, first, rows - first, packed);
  return packed;
}

static std::string packingArguments(const CudaPacking &packing) {
  static const char *const names[] = {"Half", "Wide", "Int4", "NvFp4"};
  return llvm::formatv("CudaFormat::{0}, {1}, {2}", names[int(packing.format)],
                       packing.grain, packing.asymmetric ? "true" : "false");
}

std::vector<float> CudaWeightPacker::unpack(const WeightDesc &desc,
                                            const GuardedMemory &packed) {
  const CudaPacking packing = cudaPacking(desc);
  std::string entry =
      llvm::formatv("test_unpack_{0}_{1}_{2}_{3}", int(packing.format),
                    packing.grain, int(packing.asymmetric), desc.cols);
  if (loaded.insert(entry).second) {
    const CudaText text{
        entry,
        llvm::formatv(kUnpack, entry, packingArguments(packing), desc.cols),
        {entry},
        2};
    demand(backend.load({&text, 1}, arch));
  }
  GuardedMemory in = packed, out;
  out.reserve(size_t(desc.rows * desc.cols) * sizeof(float), kPoison);
  CudaArguments arguments;
  arguments.operands = {&in, &out};
  const CudaCall call{.entry = entry, .gridX = int(desc.rows), .threads = 64};
  demand(backend.run({&call, 1}, arguments));
  return {out.floats(), out.floats() + desc.rows * desc.cols};
}

void CudaWeightPacker::launch(const char *entry,
                              std::vector<GuardedMemory *> operands) {
  CudaArguments arguments;
  arguments.operands = std::move(operands);
  const CudaCall call{.entry = entry, .gridX = 2, .threads = 256};
  demand(backend.run({&call, 1}, arguments));
  for (GuardedMemory *memory : arguments.operands)
    if (!memory->guardIsIntact())
      llvm::report_fatal_error("pack wrote behind an operand");
}

} // namespace lathe::difftest
