#include "runtime/io/Checkpoint.h"

#include "runtime/io/Json.h"
#include "runtime/io/WeightFormats.h"

namespace lathe {

static constexpr uint64_t kMaxConfigBytes = uint64_t(16) << 20;

static std::span<const uint8_t> bytesOf(const std::string &text) {
  return {reinterpret_cast<const uint8_t *>(text.data()), text.size()};
}

Status Checkpoint::readQuantConfig() {
  LATHE_ASSIGN_OR_RETURN(JsonDocument document,
                         JsonDocument::parse(config, "config.json"));
  LATHE_ASSIGN_OR_RETURN(auto section, findQuantConfig(document.root()));
  if (section) {
    LATHE_ASSIGN_OR_RETURN(quant, parseQuantConfig(*section));
    return absl::OkStatus();
  }
  std::string side = joinPath(path, "hf_quant_config.json");
  if (!fileExists(side))
    return absl::OkStatus();
  LATHE_ASSIGN_OR_RETURN(JsonDocument sideDocument, JsonDocument::read(side));
  LATHE_ASSIGN_OR_RETURN(quant, parseQuantConfig(sideDocument.root()));
  return absl::OkStatus();
}

StatusOr<Checkpoint> Checkpoint::open(const std::string &directory) {
  std::string configPath = joinPath(directory, "config.json");
  if (!fileExists(configPath))
    return modelError(directory +
                      ": no config.json; expected a model directory");
  LATHE_ASSIGN_OR_RETURN(std::string config,
                         readFile(configPath, kMaxConfigBytes));
  LATHE_ASSIGN_OR_RETURN(TensorTable table, TensorTable::open(directory));
  Checkpoint checkpoint(std::move(table));
  checkpoint.path = directory;
  checkpoint.config = std::move(config);
  LATHE_RETURN_IF_ERROR(checkpoint.readQuantConfig());
  uint64_t hash = fnv1a(bytesOf(checkpoint.config));
  for (const auto &file : checkpoint.table.files()) {
    uint64_t header = file->headerHash();
    hash = fnv1a({reinterpret_cast<const uint8_t *>(&header), 8}, hash);
  }
  checkpoint.hash = hash;
  return checkpoint;
}

bool Checkpoint::hasTensor(std::string_view name) const {
  return table.find(name) != nullptr;
}

bool Checkpoint::hasModule(std::string_view module) const {
  return layoutOf(std::string(module)) != Layout::Missing;
}

Checkpoint::Layout Checkpoint::layoutOf(const std::string &module) const {
  if (table.find(module + ".qweight"))
    return Layout::Gptq;
  if (table.find(module + ".weight_packed"))
    return Layout::NvFp4;
  const TensorRef *weight = table.find(module + ".weight");
  if (!weight)
    return Layout::Missing;
  return weight->info->dtype == DType::U8 ? Layout::NvFp4 : Layout::Dense;
}

StatusOr<WeightDesc> Checkpoint::describe(const std::string &module) const {
  switch (layoutOf(module)) {
  case Layout::Dense:
    return describeDense(table, module);
  case Layout::Gptq:
    return describeGptq(table, quant, module);
  case Layout::NvFp4:
    return describeNvFp4(table, module);
  case Layout::Missing:
    break;
  }
  return modelError("the checkpoint has no weight for " + module);
}

/// The tensor that carries `module`'s codes or values.
static const TensorRef *mainTensor(const TensorTable &table,
                                   const std::string &module) {
  for (const char *suffix : {".qweight", ".weight_packed", ".weight"})
    if (const TensorRef *ref = table.find(module + suffix))
      return ref;
  return nullptr;
}

StatusOr<HostWeight> Checkpoint::readWeight(const std::string &module,
                                            int64_t rows, int64_t cols) const {
  HostWeight weight;
  LATHE_ASSIGN_OR_RETURN(weight.desc, describe(module));
  if (weight.desc.rows != rows || weight.desc.cols != cols) {
    int64_t expected[] = {rows, cols};
    int64_t found[] = {weight.desc.rows, weight.desc.cols};
    return mainTensor(table, module)
        ->error("expected a weight of shape " + shapeText(expected) +
                ", found " + shapeText(found) + " (" +
                std::string(nameOf(weight.desc.format)) + ")");
  }
  Status status;
  switch (layoutOf(module)) {
  case Layout::Gptq:
    status = readGptq(table, quant, module, weight);
    break;
  case Layout::NvFp4:
    status = readNvFp4(table, module, weight);
    break;
  default:
    status = readDense(table, module, weight);
  }
  LATHE_RETURN_IF_ERROR(status);
  return weight;
}

StatusOr<std::vector<float>>
Checkpoint::readTensor(const std::string &name,
                       std::span<const int64_t> shape) const {
  LATHE_ASSIGN_OR_RETURN(TensorRef tensor, table.get(name));
  DType dtype = tensor.info->dtype;
  LATHE_RETURN_IF_ERROR(tensor.expect(dtype, shape));
  return readFloats(tensor);
}

} // namespace lathe
