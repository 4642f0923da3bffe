//===- WeightFormats.h - the on-disk formats of one weight ------*- C++ -*-===//
//
// Private to runtime/io: Checkpoint picks a format by the tensors that a
// module has, then calls its pair of functions. describe checks the shapes and
// types of the module's tensors and reads at most the small ones; read fills
// the bytes of a HostWeight whose desc is already set.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_WEIGHTFORMATS_H
#define LATHE_RUNTIME_IO_WEIGHTFORMATS_H

#include "runtime/base/Status.h"
#include "runtime/base/Weight.h"
#include "runtime/io/QuantConfig.h"
#include "runtime/io/TensorTable.h"

#include <string>
#include <vector>

namespace lathe {

/// `<module>.weight`, BF16, F16 or F32.
StatusOr<WeightDesc> describeDense(const TensorTable &table,
                                   const std::string &module);
Status readDense(const TensorTable &table, const std::string &module,
                 HostWeight &out);

/// `<module>.qweight`, `.scales`, `.qzeros` and perhaps `.g_idx`.
StatusOr<WeightDesc> describeGptq(const TensorTable &table,
                                  const QuantConfig &config,
                                  const std::string &module);
Status readGptq(const TensorTable &table, const QuantConfig &config,
                const std::string &module, HostWeight &out);

/// ModelOpt's `<module>.weight` and `.weight_scale_2`, or compressed-tensors'
/// `.weight_packed` and `.weight_global_scale`; both with `.weight_scale`.
StatusOr<WeightDesc> describeNvFp4(const TensorTable &table,
                                   const std::string &module);
Status readNvFp4(const TensorTable &table, const std::string &module,
                 HostWeight &out);

/// A BF16, F16 or F32 tensor as floats.
StatusOr<std::vector<float>> readFloats(const TensorRef &tensor);

/// Converts `bytes` of BF16, F16 or F32 elements to floats.
void toFloats(DType dtype, std::span<const uint8_t> bytes, float *out);

} // namespace lathe

#endif // LATHE_RUNTIME_IO_WEIGHTFORMATS_H
