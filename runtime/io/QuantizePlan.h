//===- QuantizePlan.h - what quantize will write ----------------*- C++ -*-===//
//
// Private to Quantize: decides, from names and shapes alone, which matrices to
// quantise, and describes the result to other tools.
//
//===----------------------------------------------------------------------===//

#ifndef LATHE_RUNTIME_IO_QUANTIZEPLAN_H
#define LATHE_RUNTIME_IO_QUANTIZEPLAN_H

#include "runtime/io/Checkpoint.h"
#include "runtime/io/Quantize.h"

namespace lathe {

/// One tensor of the source.
struct PlanItem {
  enum class Action : uint8_t {
    Copy,   ///< not a matrix of the language model
    Keep,   ///< a matrix that stays dense
    Misfit, ///< as Keep, because of its shape
    Quantize
  };
  TensorRef tensor;
  Action action = Action::Copy;
  std::string module; ///< the tensor's name without ".weight"
};

/// The tensors of the source in file order; `options.group` is resolved.
StatusOr<std::vector<PlanItem>> planQuantize(const Checkpoint &source,
                                             const QuantizeOptions &options);

/// The tensors that `item` becomes.
std::vector<TensorSpec> outputSpecs(const PlanItem &item,
                                    const QuantizeOptions &options);

/// The new config.json.
StatusOr<std::string> quantizedConfig(const Checkpoint &source,
                                      const std::vector<PlanItem> &plan,
                                      const QuantizeOptions &options);

/// ModelOpt's hf_quant_config.json.
std::string modelOptConfig(const std::vector<PlanItem> &plan);

/// A model.safetensors.index.json; `shards[i]` lists the tensors of file i.
std::string shardIndex(const std::vector<std::string> &files,
                       const std::vector<std::vector<TensorSpec>> &shards);

/// The bytes of a tensor.
uint64_t byteSize(const TensorSpec &spec);

} // namespace lathe

#endif // LATHE_RUNTIME_IO_QUANTIZEPLAN_H
